#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <stdexcept>
#include <utility>

#include "cli/command_arguments.h"
#include "cli/copy_command.h"
#include "cli/parsed_option.h"
#include "cli/subcommand.h"
#include "cli/units.h"

namespace minivm {
namespace {

constexpr const char* exit_codes =
    "Exit code: the command's own; 128+N killed by signal N; 127 not found; 126 not executable; 125 minivm or the\n"
    "machine failed; 124 --timeout.\n";

void add_machine(CLI::App& command, std::string& machine) {
  command.add_option("NAME", machine, "the machine")->required()->type_name("");
}

void add_machines(CLI::App& command, std::vector<std::string>& machines) {
  command.add_option("NAME", machines, "the machines")
      ->required()
      ->expected(-1)
      ->type_name("")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

class ExecSubcommand final : public Subcommand {
 public:
  explicit ExecSubcommand(CLI::App& command) : command_(command, options_.command) {
    add_machine(command, options_.machine);
    add_parsed(command, "--timeout", "kill it after this long, with exit code 124", [this](const std::string& text) {
      options_.timeout = parse_duration(text);
    })->type_name("TIME");
    command.add_flag("--detach,-d", options_.detach, "return when it runs, without its streams");
    command.footer(std::string("The command's streams are minivm's own. When this minivm ends, the command does too, "
                               "unless -d is given.\n") +
                   exit_codes);
  }

  Options result(WordsAfterMark after_mark) override {
    command_.settle(std::move(after_mark));
    if (options_.command.argv.empty()) throw std::invalid_argument("exec: no command given; see minivm exec --help");
    if (options_.detach) options_.command.tty = false;
    return std::move(options_);
  }

 private:
  ExecOptions options_;
  CommandArguments command_;
};

class ShellSubcommand final : public Subcommand {
 public:
  explicit ShellSubcommand(CLI::App& command) {
    add_machine(command, options_.machine);
    command.add_option("--user,-u", options_.command.user, "whose shell")->type_name("USER[:GROUP]");
    command.add_option("--cwd,--workdir,-w", options_.command.directory, "working directory in the guest")
        ->type_name("DIR");
    command.footer("The shell is the one of the guest's /etc/passwd, or /bin/sh.\n");
  }

  Options result(WordsAfterMark) override {
    Command& command = options_.command;
    command.tty = true;
    // $SHELL is set from the guest's passwd.
    command.argv = {"/bin/sh", "-c", "[ -x \"$SHELL\" ] || SHELL=/bin/sh; exec \"$SHELL\" -l"};
    return std::move(options_);
  }

 private:
  ExecOptions options_;
};

class CopySubcommand final : public Subcommand {
 public:
  explicit CopySubcommand(CLI::App& command) {
    command.add_option("SOURCE", options_.source, "a file or directory")->required()->type_name("");
    command.add_option("DESTINATION", options_.destination, "where it goes; one of the two is NAME:PATH")
        ->required()
        ->type_name("");
    command.footer(
        "Into a directory that is there, else to the very name; SOURCE/. means what is in a directory. Keeps modes,\n"
        "times, links and holes, and owners when root. A path of this host with a colon is written ./a:b.\n"
        "Exit code: 0, 1 when not all was copied, 125 minivm or the machine failed.\n");
  }

  Options result(WordsAfterMark) override {
    const bool from_machine = !parse_copy_place(options_.source).machine.empty();
    const bool to_machine = !parse_copy_place(options_.destination).machine.empty();
    if (from_machine == to_machine) throw std::invalid_argument("cp: one of the two must be NAME:PATH");
    return std::move(options_);
  }

 private:
  CopyOptions options_;
};

class ListSubcommand final : public Subcommand {
 public:
  explicit ListSubcommand(CLI::App& command) {
    command.add_flag("--all,-a", options_.all, "those that have ended too");
    command.add_flag("--quiet,-q", options_.names, "only the names");
    command.add_flag("--json", options_.json, "for programs");
  }

  Options result(WordsAfterMark) override { return options_; }

 private:
  ListOptions options_;
};

class LogsSubcommand final : public Subcommand {
 public:
  explicit LogsSubcommand(CLI::App& command) {
    add_machine(command, options_.machine);
    command.add_flag("--console", options_.console, "the serial console instead of the command's output");
    command.add_flag("--follow,-f", options_.follow, "go on until the machine has ended");
    command.add_option("--tail,-n", options_.tail, "only the last lines")->type_name("LINES");
    command.footer(
        "What the command wrote to its stdout goes to stdout, and stderr to stderr. The logs lie in memory, so they "
        "are\n"
        "bounded: of each at least the last 4 MiB are kept.\n");
  }

  Options result(WordsAfterMark) override { return std::move(options_); }

 private:
  LogsOptions options_;
};

class StopSubcommand final : public Subcommand {
 public:
  explicit StopSubcommand(CLI::App& command) {
    add_machines(command, options_.machines);
    add_parsed(command, "--time,-t", "how long it may take until the machine is cut off (default 10s)",
               [this](const std::string& text) { options_.deadline = parse_duration(text); })
        ->type_name("TIME");
    command.footer(
        "The machine's command gets SIGTERM; a machine without one powers off: programs end, files are synced.\n");
  }

  Options result(WordsAfterMark) override { return std::move(options_); }

 private:
  StopOptions options_;
};

class RemoveSubcommand final : public Subcommand {
 public:
  explicit RemoveSubcommand(CLI::App& command) {
    add_machines(command, options_.machines);
    command.add_flag("--force,-f", options_.force, "end those that run");
  }

  Options result(WordsAfterMark) override { return std::move(options_); }

 private:
  RemoveOptions options_;
};

/// Names, and how to tell of them.
template <typename TellOptions>
class TellSubcommand final : public Subcommand {
 public:
  explicit TellSubcommand(CLI::App& command) {
    add_machines(command, options_.machines);
    command.add_flag("--json", options_.json, "for programs: one array");
  }

  Options result(WordsAfterMark) override { return std::move(options_); }

 private:
  TellOptions options_;
};

/// Names and nothing else.
template <typename NamesOptions>
class NamesSubcommand final : public Subcommand {
 public:
  NamesSubcommand(CLI::App& command, const char* footer) {
    add_machines(command, options_.machines);
    command.footer(footer);
  }

  Options result(WordsAfterMark) override { return std::move(options_); }

 private:
  NamesOptions options_;
};

}  // namespace

std::unique_ptr<Subcommand> make_exec_subcommand(CLI::App& command) {
  return std::make_unique<ExecSubcommand>(command);
}
std::unique_ptr<Subcommand> make_shell_subcommand(CLI::App& command) {
  return std::make_unique<ShellSubcommand>(command);
}
std::unique_ptr<Subcommand> make_copy_subcommand(CLI::App& command) {
  return std::make_unique<CopySubcommand>(command);
}
std::unique_ptr<Subcommand> make_list_subcommand(CLI::App& command) {
  return std::make_unique<ListSubcommand>(command);
}
std::unique_ptr<Subcommand> make_logs_subcommand(CLI::App& command) {
  return std::make_unique<LogsSubcommand>(command);
}
std::unique_ptr<Subcommand> make_stop_subcommand(CLI::App& command) {
  return std::make_unique<StopSubcommand>(command);
}
std::unique_ptr<Subcommand> make_kill_subcommand(CLI::App& command) {
  return std::make_unique<NamesSubcommand<KillOptions>>(command, "Nothing in the guest is asked, nothing is synced.\n");
}
std::unique_ptr<Subcommand> make_wait_subcommand(CLI::App& command) {
  return std::make_unique<NamesSubcommand<WaitOptions>>(
      command, "Prints one exit code a line, in the order of the names; its own is that of the last.\n");
}
std::unique_ptr<Subcommand> make_remove_subcommand(CLI::App& command) {
  return std::make_unique<RemoveSubcommand>(command);
}
std::unique_ptr<Subcommand> make_inspect_subcommand(CLI::App& command) {
  return std::make_unique<TellSubcommand<InspectOptions>>(command);
}
std::unique_ptr<Subcommand> make_stats_subcommand(CLI::App& command) {
  command.footer(
      "Sizes are in bytes. host.resident has the guest's RAM in it as far as it is backed; host.cpu_user_us has the\n"
      "guest's own time; guest.* is what the guest says, and missing when it has no virtio-balloon driver.\n");
  return std::make_unique<TellSubcommand<StatsOptions>>(command);
}

}  // namespace minivm

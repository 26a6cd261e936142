#include "cli/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <iostream>
#include <stdexcept>
#include <utility>

#include "base/log.h"
#include "cli/subcommand.h"
#include "minivm/version.h"

namespace minivm {
namespace {

constexpr int usage_error = 125;  // as docker: a command's own exit codes stay below

/// Every verb there is, in the order of --help.
struct Verb {
  std::string_view name;
  const char* help;
  const char* group;
  std::unique_ptr<Subcommand> (*make)(CLI::App& command);
  bool takes_command;  // a program of the guest with its arguments
};

constexpr const char* start_group = "Start a machine";
constexpr const char* running_group = "Machines that run";
constexpr const char* host_group = "The host";

constexpr std::array verbs{
    Verb{"run", "Run one command in a machine of its own, gone afterwards", start_group, make_run_subcommand, true},
    Verb{"boot", "Boot a whole machine, with its console on this terminal", start_group, make_boot_subcommand, false},
    Verb{"exec", "Run one more command in a machine that runs", running_group, make_exec_subcommand, true},
    Verb{"shell", "Open a login shell in a machine that runs", running_group, make_shell_subcommand, false},
    Verb{"cp", "Copy files and trees into a machine that runs, or out of it", running_group, make_copy_subcommand,
         false},
    Verb{"ps", "List the machines", running_group, make_list_subcommand, false},
    Verb{"logs", "Show what a machine in the background has written", running_group, make_logs_subcommand, false},
    Verb{"stop", "Let machines end in order", running_group, make_stop_subcommand, false},
    Verb{"kill", "End machines at once", running_group, make_kill_subcommand, false},
    Verb{"wait", "Wait until machines have ended, and print their exit codes", running_group, make_wait_subcommand,
         false},
    Verb{"rm", "Remove what machines that have ended left behind", running_group, make_remove_subcommand, false},
    Verb{"inspect", "Tell all about machines", running_group, make_inspect_subcommand, false},
    Verb{"stats", "Tell what machines use: memory, CPU time, exits", running_group, make_stats_subcommand, false},
    Verb{"doctor", "Check what this host can do, and say how to mend what it cannot", host_group,
         make_doctor_subcommand, false},
    Verb{"bench", "Measure boots of a machine", host_group, make_bench_subcommand, true},
};

/// CLI11 does not know of the words that some verbs leave to the command.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* app, std::string name) const override {
    std::string usage = CLI::Formatter::make_usage(app, std::move(name));
    const auto verb = std::ranges::find(verbs, app->get_name(), &Verb::name);
    if (verb == verbs.end() || !verb->takes_command) return usage;
    return usage.substr(0, usage.find_last_not_of('\n') + 1) + " [--] COMMAND [ARG...]\n";
  }

  /// What add_group() made: its options, without a frame around their heading.
  std::string make_expanded(const CLI::App* group) const override {
    return make_groups(group, CLI::AppFormatMode::Sub);
  }
};

class CommandLine {
 public:
  CommandLine();
  Options parse(std::span<char*> arguments);

 private:
  void add_verbs(std::span<char* const> arguments);

  CLI::App app_{"Real Linux machines in the time it takes to start a process.", "minivm"};
  const Verb* verb_ = nullptr;  // the chosen one
  std::unique_ptr<Subcommand> chosen_;
};

CommandLine::CommandLine() {
  app_.set_version_flag("--version", std::string("minivm ") + version);
  app_.require_subcommand(1);
  app_.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app_.formatter(std::make_shared<HelpFormatter>());
  app_.failure_message([](const CLI::App* app, const CLI::Error& error) {
    const auto chosen = app->get_subcommands();
    const std::string name = chosen.empty() ? "minivm" : "minivm " + chosen.front()->get_name();
    return fmt::format("minivm: {}\nminivm: see {} --help\n", error.what(), name);
  });
  app_.footer(
      "Examples:\n"
      "  minivm run -- uname -a                              a command in the default guest\n"
      "  minivm run --rootfs debian.img -- make test         in an image, which stays as it is\n"
      "  minivm boot --kernel bzImage --rootfs distro.img    a whole machine on this terminal\n"
      "  minivm run -d --name web -- httpd -f                in the background, under a name\n"
      "  minivm exec web -- ps                               one more command in it\n"
      "  minivm cp web:/var/log .                            a directory out of it\n"
      "  minivm stop web                                     and its end\n"
      "  minivm doctor                                       what this host can do, and what to mend\n");
}

/// The one that is asked for, with its options; all of them by name, for help, if none is.
void CommandLine::add_verbs(std::span<char* const> arguments) {
  const auto asked = std::ranges::find_if(arguments, [](const char* word) { return *word != '-'; });
  for (const Verb& verb : verbs) {
    if (asked != arguments.end() && *asked != verb.name) continue;
    CLI::App& command = *app_.add_subcommand(std::string(verb.name), verb.help)->group(verb.group);
    command.footer("");  // not the examples, which are of all verbs
    if (asked == arguments.end()) continue;
    verb_ = &verb;
    chosen_ = verb.make(command);
  }
  if (verb_ == nullptr && asked != arguments.end()) {
    throw std::invalid_argument(fmt::format("no verb is called {}; see minivm --help", *asked));
  }
}

Options CommandLine::parse(std::span<char*> arguments) {
  // What follows the first -- is the command's, to the letter; so is the -- itself after a word of the command.
  const auto mark = std::ranges::find_if(arguments, [](const char* word) { return std::string_view(word) == "--"; });
  const auto own = arguments.first(static_cast<std::size_t>(mark - arguments.begin()));
  WordsAfterMark after_mark{.marked = mark != arguments.end(), .words = {}};
  if (after_mark.marked) after_mark.words.assign(mark + 1, arguments.end());
  try {
    if (!own.empty()) add_verbs(own.subspan(1));
    app_.parse(static_cast<int>(own.size()), own.data());
    if (chosen_ == nullptr) throw std::invalid_argument("no verb is given; see minivm --help");
    if (!verb_->takes_command && !after_mark.words.empty()) {
      throw std::invalid_argument(fmt::format("{}: takes no command", verb_->name));
    }
    return chosen_->result(std::move(after_mark));
  } catch (const CLI::ParseError& error) {
    return Finished{app_.exit(error, std::cout, std::cerr) == 0 ? 0 : usage_error};
  } catch (const std::invalid_argument& error) {
    log::warning("{}", error.what());
    return Finished{usage_error};
  }
}

}  // namespace

Options parse_options(std::span<char*> arguments) { return CommandLine().parse(arguments); }

}  // namespace minivm

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <stdexcept>

#include "cli/command_arguments.h"
#include "cli/machine_arguments.h"
#include "cli/subcommand.h"

namespace minivm {
namespace {

class BootSubcommand final : public Subcommand {
 public:
  explicit BootSubcommand(CLI::App& command) : machine_(command, options_) {
    options_.console.kind = ConsoleChoice::Kind::stdio;
    command.footer(
        "A root image is written to unless it ends in :ro or --ephemeral is given; its own init runs (--init to "
        "choose).\n"
        "On a terminal all keys go to the guest; Ctrl-A x ends the machine, Ctrl-A Ctrl-A sends Ctrl-A.\n"
        "With -d it runs in the background until it powers off or is stopped.\n"
        "Exit code: 0 the guest powered off or rebooted, 125 it failed, 124 --timeout, 128+N signal N.\n");
  }

  Options result(WordsAfterMark) override {
    machine_.settle(false);
    MachineConfig& machine = options_.machine;
    if (machine.init.empty() && machine.root.kind == Root::Kind::disk) machine.init = "/sbin/init";
    return std::move(options_);
  }

 private:
  BootOptions options_;
  MachineArguments machine_;
};

class RunSubcommand final : public Subcommand {
 public:
  explicit RunSubcommand(CLI::App& command) : machine_(command, options_), command_(command, options_.command) {
    command.footer(
        "A root image stays as it is: changes are kept in the guest's RAM, unless it ends in :rw.\n"
        "With -d the machine lives as long as the command, without one until it is stopped.\n"
        "Exit code: the command's own; 128+N killed by signal N; 127 not found; 126 not executable; 125 minivm or the\n"
        "guest failed; 124 --timeout.\n");
  }

  Options result(WordsAfterMark after_mark) override {
    machine_.settle(true);
    command_.settle(std::move(after_mark));
    if (options_.command.argv.empty()) {
      if (options_.detach) return idle_machine();
      throw std::invalid_argument("run: no command given; see minivm run --help");
    }
    // Nobody is there to type.
    if (options_.detach) options_.command.tty = command_.wants_terminal();
    return std::move(options_);
  }

 private:
  /// Without a command it is there for those that `exec` brings.
  BootOptions idle_machine() { return BootOptions{std::move(static_cast<MachineOptions&>(options_))}; }

  RunOptions options_;
  MachineArguments machine_;
  CommandArguments command_;
};

}  // namespace

std::unique_ptr<Subcommand> make_boot_subcommand(CLI::App& command) {
  return std::make_unique<BootSubcommand>(command);
}

std::unique_ptr<Subcommand> make_run_subcommand(CLI::App& command) { return std::make_unique<RunSubcommand>(command); }

}  // namespace minivm

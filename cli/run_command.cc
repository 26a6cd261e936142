#include "cli/run_command.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <optional>

#include "base/log.h"
#include "cli/console_choice.h"
#include "cli/detach.h"
#include "cli/named_machine.h"
#include "cli/program_pages.h"
#include "cli/record.h"
#include "cli/report.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "vmm/command_run.h"

namespace minivm {

namespace {

int run_machine(const RunOptions& options, WaitingParent* parent) {
  Command command = options.command;
  if (command.tty) add_terminal_type(command.env);
  std::optional<NamedMachine> named;
  if (options.is_named()) named.emplace(options, command.argv, parent);
  std::optional<RawTerminal> terminal;
  const TerminalSize size = terminal_size(STDIN_FILENO);

  CommandRun::Options run_options;
  run_options.timeout = options.timeout;
  run_options.console = named ? named->console() : open_console(options.console);
  if (named) run_options.streams = named->streams();
  run_options.rows = size.rows;
  run_options.columns = size.columns;
  // Only now: Ctrl-C ends a boot that takes too long.
  run_options.on_start = [&] {
    if (command.tty && ::isatty(STDIN_FILENO) != 0) terminal.emplace(STDIN_FILENO);
    if (named) named->ready();
  };
  if (named) run_options.on_started = [&] { named->release_parent(); };
  CommandRun command_run(options.machine, command, std::move(run_options));
  std::unique_ptr<MachineSocket> socket;
  if (named) {
    socket = named->open(command_run.machine(),
                         {.stop = [&command_run](std::chrono::milliseconds deadline) { command_run.stop(deadline); },
                          .kill = [&command_run] { command_run.kill(); }});
  }
  const SignalWatch signals(command_run.machine().loop(), [&](int number) {
    switch (number) {
      case SIGWINCH: {
        const TerminalSize now = terminal_size(STDIN_FILENO);
        return command_run.resize(now.rows, now.columns);
      }
      case SIGTSTP:
        command_run.suspend();
        if (terminal) terminal->pause();
        stop_until_continued();
        if (terminal) terminal->resume();
        return command_run.resume();
      case SIGCONT:
        return command_run.resume();
      default:
        return command_run.signal(number);
    }
  });
  release_program_pages_later(command_run.machine().loop());
  const RunResult result = command_run.run();
  terminal.reset();

  if (!result.failure.empty()) report_failure(result.failure, result.console_lines);
  if (result.status && result.status->out_of_memory) log::warning("the guest ran out of memory and killed the command");
  if (options.timing) report_timing(options.start, result.timing);
  if (!options.json_file.empty()) write_record(options.json_file, result, options.start);
  if (named) named->ended(result, *socket);
  return result.exit_code;
}

}  // namespace

int run_command(const RunOptions& options) {
  if (!options.detach) return run_machine(options, nullptr);
  return detach([&](WaitingParent& parent) { return run_machine(options, &parent); });
}

}  // namespace minivm

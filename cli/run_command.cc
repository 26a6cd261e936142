#include "cli/run_command.h"

#include <unistd.h>

#include <csignal>
#include <optional>

#include "base/log.h"
#include "cli/console_choice.h"
#include "cli/record.h"
#include "cli/report.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "vmm/command_run.h"

namespace minivm {

int run_command(const RunOptions& options) {
  Command command = options.command;
  if (command.tty) add_terminal_type(command.env);
  std::optional<RawTerminal> terminal;
  const TerminalSize size = terminal_size(STDIN_FILENO);

  CommandRun::Options run_options;
  run_options.timeout = options.timeout;
  run_options.console = open_console(options.console);
  run_options.rows = size.rows;
  run_options.columns = size.columns;
  // Only now: Ctrl-C ends a boot that takes too long.
  run_options.on_start = [&] {
    if (command.tty && ::isatty(STDIN_FILENO) != 0) terminal.emplace(STDIN_FILENO);
  };
  CommandRun run(options.machine, command, std::move(run_options));
  const SignalWatch signals(run.machine().loop(), [&](int number) {
    if (number == SIGWINCH) {
      const TerminalSize now = terminal_size(STDIN_FILENO);
      run.resize(now.rows, now.columns);
    } else {
      run.signal(number);
    }
  });
  const RunResult result = run.run();
  terminal.reset();

  if (!result.failure.empty()) report_failure(result.failure, result.console_lines);
  if (result.status && result.status->out_of_memory) log::warning("the guest ran out of memory and killed the command");
  if (!options.json_file.empty()) write_record(options.json_file, result);
  return result.exit_code;
}

}  // namespace minivm

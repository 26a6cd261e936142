#include "cli/boot_command.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "cli/console_choice.h"
#include "cli/console_input.h"
#include "cli/detach.h"
#include "cli/named_machine.h"
#include "cli/program_pages.h"
#include "cli/record.h"
#include "cli/report.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "vmm/command_run.h"
#include "vmm/machine.h"

namespace minivm {
namespace {

using namespace std::chrono_literals;

constexpr int timed_out = 124;
constexpr int signal_base = 128;
/// For an init system to stop its services, sync and unmount.
constexpr auto power_off_deadline = 20s;
constexpr std::size_t shown_console_lines = 20;

/// The machine of `minivm boot`, and what its user may do to it. All but `run` on the machine's loop thread.
class BootedMachine {
 public:
  /// `on_ready` is called on the loop's thread.
  BootedMachine(const BootOptions& options, HostFile console, std::function<void()> on_ready);

  Machine& machine() noexcept { return machine_; }
  RunResult run();
  /// Lets the guest sync and unmount; the second time, or when it does not answer, it is cut off.
  void end_softly(int exit_code, std::chrono::milliseconds deadline = power_off_deadline);
  void end_now(int exit_code);

 private:
  HostFile open_input() const;
  void tell_size();
  void on_signal(int number);
  RunResult result_of(const MachineEnd& end);

  const BootOptions& options_;
  std::function<void()> on_ready_;
  bool on_terminal_;
  std::optional<int> exit_code_;  // decided by us and not by the guest
  std::optional<RawTerminal> terminal_;
  Machine machine_;
  SignalWatch signals_;
  std::optional<ConsoleInput> input_;
};

BootedMachine::BootedMachine(const BootOptions& options, HostFile console, std::function<void()> on_ready)
    : options_(options),
      on_ready_(std::move(on_ready)),
      on_terminal_(options.console.kind == ConsoleChoice::Kind::stdio && ::isatty(STDIN_FILENO) != 0),
      machine_(options.machine, std::move(console), {.ready = [this] { on_ready_(); }}),
      signals_(machine_.loop(), [this](int number) { on_signal(number); }) {
  if (options.console.kind != ConsoleChoice::Kind::stdio) return;
  if (on_terminal_) tell_size();
  input_.emplace(machine_.loop(), machine_.input(), open_input(), on_terminal_,
                 ConsoleInput::Events{.quit = [this] { end_softly(0); },
                                      .terminal_lost = [this] { end_softly(signal_base + SIGHUP); }});
}

HostFile BootedMachine::open_input() const {
  UniqueFd copy(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0));
  return copy ? HostFile(std::move(copy), HostFile::Direction::read) : HostFile();
}

RunResult BootedMachine::run() {
  if (options_.timeout.count() > 0) machine_.loop().after(options_.timeout, [this] { end_softly(timed_out); });
  release_program_pages_later(machine_.loop());
  if (on_terminal_) terminal_.emplace(STDIN_FILENO);
  RunResult result = result_of(machine_.run());
  terminal_.reset();
  return result;
}

void BootedMachine::tell_size() {
  const TerminalSize size = terminal_size(STDIN_FILENO);
  machine_.resize_console(size.columns, size.rows);
}

void BootedMachine::on_signal(int number) {
  if (number == SIGWINCH && on_terminal_) return tell_size();
  if (number == SIGWINCH || number == SIGUSR1 || number == SIGUSR2) return;
  if (number == SIGCONT) return machine_.channel().set_time();
  if (number == SIGTSTP) {
    if (terminal_) terminal_->pause();
    stop_until_continued();
    if (terminal_) terminal_->resume();
    return machine_.channel().set_time();
  }
  end_softly(signal_base + number);
}

void BootedMachine::end_softly(int exit_code, std::chrono::milliseconds deadline) {
  if (exit_code_ || !machine_.channel().ready()) return end_now(exit_code);
  exit_code_ = exit_code;
  machine_.channel().power_off();
  machine_.loop().after(deadline, [this, exit_code] { end_now(exit_code); });
}

void BootedMachine::end_now(int exit_code) {
  if (!exit_code_) exit_code_ = exit_code;
  machine_.end({MachineEnd::Reason::stopped, {}});
}

RunResult BootedMachine::result_of(const MachineEnd& end) {
  RunResult result;
  result.timing = machine_.timing();
  if (exit_code_) {
    result.exit_code = *exit_code_;
    if (*exit_code_ == timed_out) {
      result.failure = fmt::format("timed out after {} s", static_cast<double>(options_.timeout.count()) / 1000);
    }
    return result;
  }
  if (end.reason == MachineEnd::Reason::power_off || end.reason == MachineEnd::Reason::reset) return result;
  result.exit_code = ExecOutcome::launcher_failed;
  result.failure = describe(end);
  // On stdio the user has just seen them.
  if (options_.console.kind != ConsoleChoice::Kind::stdio) {
    result.console_lines = machine_.console().last_lines(shown_console_lines);
  }
  return result;
}

int boot_machine(const BootOptions& options, WaitingParent* parent) {
  std::optional<NamedMachine> named;
  if (options.is_named()) named.emplace(options, std::vector<std::string>(), parent);
  BootedMachine booted(options, named ? named->console() : open_console(options.console), [&named] {
    if (!named) return;
    named->ready();
    named->release_parent();
  });
  std::unique_ptr<MachineSocket> socket;
  if (named) {
    socket = named->open(booted.machine(),
                         {.stop = [&booted](std::chrono::milliseconds deadline) { booted.end_softly(0, deadline); },
                          .kill = [&booted] { booted.end_now(signal_base + SIGKILL); }});
  }
  const RunResult result = booted.run();
  if (!result.failure.empty()) report_failure(result.failure, result.console_lines);
  if (options.timing) report_timing(options.start, result.timing);
  if (!options.json_file.empty()) write_record(options.json_file, result, options.start);
  if (named) named->ended(result, *socket);
  return result.exit_code;
}

}  // namespace

int boot_command(const BootOptions& options) {
  if (!options.detach) return boot_machine(options, nullptr);
  return detach([&](WaitingParent& parent) { return boot_machine(options, &parent); });
}

}  // namespace minivm

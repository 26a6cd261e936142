#include "cli/exec_command.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <optional>

#include "base/log.h"
#include "cli/console_choice.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "vmm/exec_session.h"
#include "vmm/machine_client.h"

namespace minivm {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int timed_out = 124;
/// A machine's process that does not even greet has stopped; a slow guest is no reason.
constexpr auto greeting_deadline = 60s;
/// For a command that was killed to be reported.
constexpr auto kill_grace = 10s;

/// One exec, from this process's streams and signals to its exit code.
class Exec {
 public:
  explicit Exec(const ExecOptions& options);

  int run();

 private:
  Streams streams() const;
  MachineClient::Events events();
  void wait();
  void on_deadline();
  void on_signal(int number);
  void finish(int exit_code, const std::string& failure);

  const ExecOptions& options_;
  Command command_;
  MachineClient client_;
  SignalQueue signals_;  // once there is somebody to pass them to: until then they end this process
  std::optional<RawTerminal> terminal_;
  Clock::time_point started_ = Clock::now();
  std::optional<Clock::time_point> killed_at_;
  int signals_passed_ = 0;
  std::optional<int> exit_code_;
};

Exec::Exec(const ExecOptions& options) : options_(options), command_(options.command), client_(options.machine) {
  if (command_.tty) add_terminal_type(command_.env);
}

int Exec::run() {
  const TerminalSize size = command_.tty ? terminal_size(STDIN_FILENO) : TerminalSize{};
  client_.exec(command_, streams(), size.rows, size.columns, options_.detach);
  if (command_.tty && ::isatty(STDIN_FILENO) != 0) terminal_.emplace(STDIN_FILENO);
  while (!exit_code_) wait();
  return *exit_code_;
}

/// In the background of a shell that does jobs, the terminal's keys are for others.
Streams Exec::streams() const {
  if (options_.detach) return {-1, -1, -1};
  const pid_t foreground = ::tcgetpgrp(STDIN_FILENO);
  if (foreground > 0 && foreground != ::getpgrp()) return {-1, STDOUT_FILENO, STDERR_FILENO};
  return {};
}

void Exec::wait() {
  std::optional<Clock::time_point> deadline;
  if (!client_.welcomed()) deadline = started_ + greeting_deadline;
  if (killed_at_) {
    deadline = *killed_at_ + kill_grace;
  } else if (options_.timeout.count() > 0) {
    deadline = std::min(deadline.value_or(Clock::time_point::max()), started_ + options_.timeout);
  }
  int milliseconds = -1;
  if (deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now());
    if (left.count() <= 0) return on_deadline();
    milliseconds = static_cast<int>(std::min<std::int64_t>(left.count(), 60'000));
  }
  std::array<pollfd, 2> ready{{{client_.fd(), POLLIN, 0}, {signals_.fd(), POLLIN, 0}}};
  if (::poll(ready.data(), ready.size(), milliseconds) < 0 && errno != EINTR) throw_errno("poll");
  if (ready[1].revents != 0) {
    while (const auto number = signals_.next()) on_signal(*number);
  }
  if (ready[0].revents != 0 && !client_.receive(events())) {
    finish(ExecOutcome::launcher_failed,
           fmt::format("machine {}: its process ended before the command did", client_.name()));
  }
}

MachineClient::Events Exec::events() {
  return {.started =
              [this] {
                if (options_.detach) finish(0, {});
              },
          .exited =
              [this](const ExitStatus& status) {
                finish(status.code, {});
                if (status.out_of_memory) log::warning("the guest ran out of memory and killed the command");
              },
          .refused = [this](int exit_code, const std::string& reason) { finish(exit_code, reason); }};
}

void Exec::on_deadline() {
  if (!client_.welcomed()) {
    return finish(ExecOutcome::launcher_failed, fmt::format("machine {}: does not answer", client_.name()));
  }
  if (killed_at_) return finish(timed_out, "timed out, and the command has not ended since");
  killed_at_ = Clock::now();
  client_.signal(SIGKILL);
}

void Exec::on_signal(int number) {
  if (number == SIGWINCH) {
    const TerminalSize size = terminal_size(STDIN_FILENO);
    return client_.resize(size.rows, size.columns);
  }
  if (number == SIGTSTP) {
    // Not SIGTSTP: the command leads a session of its own, so its group is an orphaned one, which that does not stop.
    client_.signal(SIGSTOP);
    if (terminal_) terminal_->pause();
    stop_until_continued();
    if (terminal_) terminal_->resume();
    number = SIGCONT;
  }
  const bool ends = number != SIGUSR1 && number != SIGUSR2 && number != SIGCONT;
  // The second time it is meant.
  if (ends && ++signals_passed_ > 1) number = SIGKILL;
  client_.signal(number);
}

void Exec::finish(int exit_code, const std::string& failure) {
  if (exit_code_) return;
  terminal_.reset();
  exit_code_ = exit_code;
  if (killed_at_) {
    exit_code_ = timed_out;
    log::warning("timed out after {} s", static_cast<double>(options_.timeout.count()) / 1000);
  } else if (!failure.empty()) {
    log::warning("{}", failure);
  }
}

}  // namespace

int exec_command(const ExecOptions& options) { return Exec(options).run(); }

}  // namespace minivm

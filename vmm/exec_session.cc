#include "vmm/exec_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/clock.h"

namespace minivm {
namespace {

constexpr int signal_base = 128;

/// What a guest says may be any bytes.
std::string printable(std::string_view text) {
  std::string shown(text);
  std::ranges::replace_if(
      shown, [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return shown;
}

/// The words before "strerror"; the object of each step is what the user named.
std::string describe_step(protocol::ExecStep step, const Command& command) {
  switch (step) {
    case protocol::ExecStep::request:
      return "exec request";
    case protocol::ExecStep::streams:
      return "connecting the streams";
    case protocol::ExecStep::terminal:
      return "opening a terminal in the guest";
    case protocol::ExecStep::upload:
      return fmt::format("sending {}", command.upload);
    case protocol::ExecStep::user:
      return fmt::format("user {} in the guest", command.user);
    case protocol::ExecStep::directory:
      return fmt::format("changing to {} in the guest", command.directory);
    case protocol::ExecStep::fork:
      return "fork in the guest";
    case protocol::ExecStep::identity:
      return fmt::format("becoming user {} in the guest", command.user);
    case protocol::ExecStep::execute:
      return command.argv.front();
    case protocol::ExecStep::limits:
      return "setting resource limits in the guest";
    case protocol::ExecStep::interpreter:
    case protocol::ExecStep::library:
      return command.upload;
  }
  return "exec in the guest";
}

}  // namespace

ExecOutcome describe_failure(const protocol::ExecFailed& failed, const Command& command) {
  const int error = static_cast<int>(failed.error);
  ExecOutcome outcome;
  outcome.launcher_code = ExecOutcome::launcher_failed;
  if (failed.step == protocol::ExecStep::execute) {
    outcome.launcher_code = error == ENOENT ? ExecOutcome::not_found : ExecOutcome::not_executable;
  }
  if (failed.step == protocol::ExecStep::interpreter || failed.step == protocol::ExecStep::library) {
    outcome.launcher_code = ExecOutcome::not_found;
    const bool loader = failed.step == protocol::ExecStep::interpreter;
    outcome.failure = fmt::format(
        "{}: needs the {} {}, which the guest's root does not have: link it with -static, or use "
        "a root that has it (--rootfs)",
        describe_step(failed.step, command), loader ? "loader" : "library", printable(failed.object));
    return outcome;
  }
  std::string reason = std::strerror(error);
  if (failed.step == protocol::ExecStep::execute && error == ENOENT) {
    // The kernel says the same when the program is there and its interpreter or loader is not.
    reason = command.argv.front().contains('/') ? "not found in the guest, or its interpreter is not"
                                                : "not found in the guest's PATH";
  } else if (failed.step == protocol::ExecStep::user && error == ENOENT) {
    reason = "no such user or group";
  } else if (failed.step == protocol::ExecStep::request && error == EAGAIN) {
    reason = "the guest runs as many commands as it can already";
  }
  outcome.failure = fmt::format("{}: {}", describe_step(failed.step, command), reason);
  return outcome;
}

ExecSession::ExecSession(Command command, std::uint32_t open_sinks, OnEnd on_end, OnStart on_start)
    : command_(std::move(command)),
      open_sinks_(open_sinks),
      on_end_(std::move(on_end)),
      on_start_(std::move(on_start)) {}

void ExecSession::started() {
  if (started_ns_ == 0) started_ns_ = monotonic_ns();
  // Once, whatever the guest says.
  if (on_start_) std::exchange(on_start_, nullptr)();
}

void ExecSession::exited(const protocol::Exited& exited) {
  ExitStatus status;
  if ((exited.flags & protocol::Exited::by_signal) != 0) {
    status.signal = static_cast<int>(exited.value & 0x7F);
    status.code = signal_base + status.signal;
  } else {
    status.code = static_cast<int>(exited.value & 0xFF);
  }
  status.out_of_memory = (exited.flags & protocol::Exited::out_of_memory) != 0;
  outcome_ = ExecOutcome{.status = status, .failure = {}, .started_ns = started_ns_, .ended_ns = monotonic_ns()};
  end_when_complete();
}

void ExecSession::failed(const protocol::ExecFailed& failed) {
  outcome_ = describe_failure(failed, command_);
  open_sinks_ = 0;
  end_when_complete();
}

void ExecSession::lost(const std::string& reason) {
  // A status that has arrived stands: only output that was still on its way is missing.
  if (!outcome_) outcome_ = ExecOutcome{.launcher_code = ExecOutcome::launcher_failed, .failure = reason};
  open_sinks_ = 0;
  end_when_complete();
}

void ExecSession::sink_done(int) {
  // A sink that broke is the reader's choice, as with `| head -1`: the guest's writer gets SIGPIPE and ends as it will.
  if (open_sinks_ > 0) --open_sinks_;
  end_when_complete();
}

void ExecSession::end_when_complete() {
  if (!outcome_ || open_sinks_ > 0 || !on_end_) return;
  std::exchange(on_end_, nullptr)(*std::move(outcome_));
}

}  // namespace minivm

#pragma once

#include <functional>
#include <string>

#include "base/event_loop.h"
#include "base/fd.h"

namespace minivm {

/// The foreground process that `run -d` and `boot -d` were called as, seen from the background one that runs the
/// machine. Until `release`, stdout and stderr are still the caller's.
class WaitingParent {
 public:
  explicit WaitingParent(UniqueFd pipe) noexcept : pipe_(std::move(pipe)) {}

  /// Calls `on_gone` when it ends before `release`: the user no longer waits, and nobody would know of the machine.
  void watch(EventLoop& loop, std::function<void()> on_gone);
  /// The machine is up: prints `name` on stdout, leaves the caller's terminal and directory, and lets the parent exit
  /// with 0. What minivm says from now on goes to `log`.
  void release(EventLoop& loop, const std::string& name, int log);

 private:
  UniqueFd pipe_;
};

/// Runs `work` in a new process in a session of its own, and returns its result there. In the calling process, returns
/// 0 as soon as the parent was released, else the exit code of the process that ended before. Before threads start.
int detach(const std::function<int(WaitingParent&)>& work);

}  // namespace minivm

#pragma once

#include <functional>
#include <optional>

#include "base/event_loop.h"
#include "base/fd.h"

namespace minivm {

/// SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGTSTP and SIGCONT, taken from a descriptor instead
/// of interrupting. Build it before threads start: they inherit the mask.
class SignalQueue {
 public:
  SignalQueue();

  /// For poll(2).
  int fd() const noexcept { return fd_.get(); }
  /// The next that has come; nothing when none has.
  std::optional<int> next() const noexcept;

 private:
  UniqueFd fd_;
};

/// Turns those signals into calls on the loop's thread.
class SignalWatch {
 public:
  SignalWatch(EventLoop& loop, std::function<void(int number)> on_signal);

 private:
  SignalQueue queue_;
};

/// Does what SIGTSTP does to a program that has nothing to say about it: the whole process stops. Returns when it was
/// continued, or at once where the kernel stops nobody, in an orphaned process group.
void stop_until_continued();

}  // namespace minivm

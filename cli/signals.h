#pragma once

#include <functional>

#include "base/event_loop.h"
#include "base/fd.h"

namespace minivm {

/// Turns SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and SIGWINCH into calls on the loop's thread. Build it
/// before threads start: they inherit the mask.
class SignalWatch {
 public:
  SignalWatch(EventLoop& loop, std::function<void(int number)> on_signal);

 private:
  UniqueFd fd_;
};

}  // namespace minivm

#pragma once

#include <functional>

#include "base/event_loop.h"
#include "base/fd.h"

namespace minivm {

/// Tells when a guest may have lost the time of day: when the host's CLOCK_REALTIME was set or jumped, as it does when
/// the host wakes up from suspend, and once a minute, for clocks that drift apart. Event-loop thread.
class ClockWatch {
 public:
  /// Throws std::system_error when the host has no timer to give.
  ClockWatch(EventLoop& loop, std::function<void()> on_doubt);
  ~ClockWatch();
  ClockWatch(const ClockWatch&) = delete;
  ClockWatch& operator=(const ClockWatch&) = delete;

 private:
  void arm() const noexcept;
  void on_timer() const;

  EventLoop& loop_;
  std::function<void()> on_doubt_;
  UniqueFd timer_;
};

}  // namespace minivm

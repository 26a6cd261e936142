#pragma once

#include <cstdint>

namespace minivm::guest {

/// CLOCK_BOOTTIME: since the kernel started.
std::uint64_t boot_time_ns() noexcept;

/// Makes the wall clock the host's when it is more than 100 ms behind, or more than a second ahead: a smaller step does
/// more harm than good, and a message that was long on its way looks like a clock that is ahead.
void follow_host_clock(std::uint64_t realtime_ns) noexcept;

/// A wait in small steps, first short and then longer, for what the kernel does on its own: `while (!done) if
/// (!patience.wait()) give up`.
class Patience {
 public:
  explicit Patience(std::uint32_t milliseconds) noexcept
      : deadline_ns_(boot_time_ns() + std::uint64_t{milliseconds} * 1'000'000) {}

  /// Sleeps; false when the time is over.
  bool wait() noexcept;
  /// What is left, in milliseconds, rounded up: a timeout for poll(2).
  int left_ms() const noexcept;

 private:
  std::uint64_t deadline_ns_;
  std::uint64_t step_ns_ = 100'000;
};

}  // namespace minivm::guest

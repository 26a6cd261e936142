#include "guest-init/clock.h"

#include <algorithm>
#include <ctime>

namespace minivm::guest {
namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;
constexpr std::uint64_t tolerated_behind_ns = 100'000'000;
constexpr std::uint64_t tolerated_ahead_ns = second_ns;
constexpr std::uint64_t longest_step_ns = 10'000'000;

std::uint64_t read_clock(clockid_t clock) noexcept {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * second_ns + static_cast<std::uint64_t>(now.tv_nsec);
}

timespec to_timespec(std::uint64_t ns) noexcept {
  timespec time{};
  time.tv_sec = static_cast<time_t>(ns / second_ns);
  time.tv_nsec = static_cast<long>(ns % second_ns);
  return time;
}

}  // namespace

std::uint64_t boot_time_ns() noexcept { return read_clock(CLOCK_BOOTTIME); }

void follow_host_clock(std::uint64_t realtime_ns) noexcept {
  const std::uint64_t ours = read_clock(CLOCK_REALTIME);
  const bool is_right =
      ours > realtime_ns ? ours - realtime_ns <= tolerated_ahead_ns : realtime_ns - ours <= tolerated_behind_ns;
  if (is_right) return;
  const timespec time = to_timespec(realtime_ns);
  clock_settime(CLOCK_REALTIME, &time);
}

bool Patience::wait() noexcept {
  if (boot_time_ns() >= deadline_ns_) return false;
  const timespec step = to_timespec(step_ns_);
  nanosleep(&step, nullptr);
  step_ns_ = std::min(step_ns_ * 2, longest_step_ns);
  return true;
}

int Patience::left_ms() const noexcept {
  const std::uint64_t now = boot_time_ns();
  return now >= deadline_ns_ ? 0 : static_cast<int>((deadline_ns_ - now + 999'999) / 1'000'000);
}

}  // namespace minivm::guest

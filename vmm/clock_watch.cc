#include "vmm/clock_watch.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cstdint>
#include <ctime>
#include <utility>

namespace minivm {
namespace {

/// At the 500 ppm that NTP may slew a clock by, they are 30 ms apart after it.
constexpr time_t period_s = 60;

}  // namespace

ClockWatch::ClockWatch(EventLoop& loop, std::function<void()> on_doubt)
    : loop_(loop),
      on_doubt_(std::move(on_doubt)),
      timer_(::timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK)) {
  if (!timer_) throw_errno("timerfd_create");
  arm();
  loop_.watch(timer_.get(), EPOLLIN, [this](std::uint32_t) { on_timer(); });
}

ClockWatch::~ClockWatch() { loop_.unwatch(timer_.get()); }

void ClockWatch::arm() const noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const itimerspec due{.it_interval = {}, .it_value = {.tv_sec = now.tv_sec + period_s, .tv_nsec = now.tv_nsec}};
  // timerfd_create(2): the descriptor becomes readable, with ECANCELED, at once when the clock jumps.
  ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &due, nullptr);
}

void ClockWatch::on_timer() const {
  std::uint64_t expirations = 0;
  [[maybe_unused]] const auto either = ::read(timer_.get(), &expirations, sizeof expirations);
  arm();
  on_doubt_();
}

}  // namespace minivm

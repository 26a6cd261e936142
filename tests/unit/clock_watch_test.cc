#include "vmm/clock_watch.h"

#include <catch2/catch.hpp>
#include <ctime>

namespace minivm {
namespace {

using namespace std::chrono_literals;

/// To what it says already, which for the kernel is a jump like any other. False without the right to do so.
bool set_clock() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return ::clock_settime(CLOCK_REALTIME, &now) == 0;
}

TEST_CASE("A jump of the host's clock is noticed at once, and so is the next one") {
  EventLoop loop;
  int doubts = 0;
  const ClockWatch watch(loop, [&] {
    if (++doubts == 2) return loop.stop();
    set_clock();
  });
  if (!set_clock()) {
    WARN("may not set the clock here");
    return;
  }
  loop.after(20s, [&] { loop.stop(); });
  loop.run();
  CHECK(doubts == 2);
}

}  // namespace
}  // namespace minivm

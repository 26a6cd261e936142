#include "cli/process_start.h"

#include <ctime>

#include "base/clock.h"

namespace minivm {

ProcessStart process_start() noexcept {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  ProcessStart start;
  start.main = monotonic_ns();
  start.exec = start.main - (std::int64_t{used.tv_sec} * 1'000'000'000 + used.tv_nsec);
  return start;
}

}  // namespace minivm

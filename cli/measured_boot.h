#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "minivm/timing.h"

namespace minivm {

/// One `minivm run` in a process of its own, and when it reached what: CLOCK_MONOTONIC in nanoseconds.
struct MeasuredBoot {
  std::int64_t exec = 0;     // right before it
  std::int64_t main = 0;     // main's first line
  std::int64_t options = 0;  // the command line was read
  Timing timing;
  std::int64_t gone = 0;  // the process was waited for
  std::int64_t cpu = 0;   // nanoseconds of CPU time, user and system, that of the guest included
  int exit_code = 0;
};

/// Runs this program again as `minivm run ARGUMENTS`, without input or output; what it complains about goes to stderr.
/// Throws std::system_error, or std::runtime_error when it left no record.
MeasuredBoot measure_boot(const std::vector<std::string>& arguments);

}  // namespace minivm

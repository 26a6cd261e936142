#pragma once

#include <cstdint>

namespace minivm {

/// What came before there was a machine: CLOCK_MONOTONIC in nanoseconds.
struct ProcessStart {
  std::int64_t exec = 0;     // main less the CPU time used until then, see process_start
  std::int64_t main = 0;     // main's first line
  std::int64_t options = 0;  // the command line was read
};

/// For main's first line. No clock of a process tells its exec: it is taken as `main` less the process's CPU time. What
/// its parent's child did between fork and exec counts as well, and what it waited for does not.
ProcessStart process_start() noexcept;

}  // namespace minivm

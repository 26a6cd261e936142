#pragma once

#include <chrono>
#include <cstdint>

namespace minivm {

/// CLOCK_MONOTONIC in nanoseconds. Any thread.
inline std::int64_t monotonic_ns() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

}  // namespace minivm

#include <cmath>
#include <cstdint>

/// As of C, 7.12.9.1. All that would be left of libm: fmt calls it for floating-point numbers, and a shared library
/// takes each start a seventh of the instructions before main, and 300 KiB.
extern "C" double ceil(double value) noexcept {
  constexpr double all_whole = 0x1p52;  // a double from here on has no fraction
  if (!(std::fabs(value) < all_whole)) return value;
  const auto truncated = static_cast<double>(static_cast<std::int64_t>(value));
  return std::copysign(truncated < value ? truncated + 1 : truncated, value);
}

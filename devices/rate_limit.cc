#include "devices/rate_limit.h"

namespace minivm {
namespace {

using Seconds = std::chrono::duration<double>;
// Whoever owes more asks again then; what a clock counts in would overflow with it.
constexpr Seconds longest_wait{3600};

}  // namespace

TokenBucket::TokenBucket(std::uint64_t rate, Clock::time_point now) noexcept
    : rate_(static_cast<double>(rate)), capacity_(std::max(rate_ / 10, 1.0)), level_(capacity_), filled_(now) {}

TokenBucket::Clock::duration TokenBucket::wait(Clock::time_point now) noexcept {
  if (rate_ == 0) return {};
  level_ = std::min(capacity_, level_ + Seconds(now - filled_).count() * rate_);
  filled_ = now;
  if (level_ > 0) return {};
  // Strictly above zero, or a caller that waits just so long finds the bucket empty again.
  return std::chrono::ceil<Clock::duration>(std::min(Seconds(-level_ / rate_), longest_wait)) +
         std::chrono::nanoseconds(1);
}

void TokenBucket::take(std::uint64_t units) noexcept {
  if (rate_ != 0) level_ -= static_cast<double>(units);
}

}  // namespace minivm

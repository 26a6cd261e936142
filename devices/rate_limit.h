#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace minivm {

/// So many units each second, by a token bucket that holds a tenth of a second's worth. What is begun is never cut: one
/// large request may overdraw the bucket, and those after it wait until the debt is paid. Rate 0: no limit.
class TokenBucket {
 public:
  using Clock = std::chrono::steady_clock;

  TokenBucket(std::uint64_t rate, Clock::time_point now) noexcept;

  /// How long until something may begin; nothing left to wait for when it is zero.
  Clock::duration wait(Clock::time_point now) noexcept;
  void take(std::uint64_t units) noexcept;

 private:
  double rate_;  // units a second
  double capacity_;
  double level_;
  Clock::time_point filled_;
};

/// What a device may do each second; 0: as much as it can.
struct RateLimit {
  std::uint64_t operations = 0;
  std::uint64_t bytes = 0;
};

/// Both limits of a RateLimit. One thread.
class RateLimiter {
 public:
  using Clock = TokenBucket::Clock;

  explicit RateLimiter(const RateLimit& limit) noexcept
      : limited_(limit.operations != 0 || limit.bytes != 0),
        operations_(limit.operations, Clock::now()),
        bytes_(limit.bytes, Clock::now()) {}

  /// How long the next request has to wait.
  Clock::duration wait() noexcept {
    if (!limited_) return {};
    const auto now = Clock::now();
    return std::max(operations_.wait(now), bytes_.wait(now));
  }
  /// Counts a request that began.
  void count(std::uint64_t bytes) noexcept {
    if (!limited_) return;
    operations_.take(1);
    bytes_.take(bytes);
  }

 private:
  bool limited_;
  TokenBucket operations_;
  TokenBucket bytes_;
};

}  // namespace minivm

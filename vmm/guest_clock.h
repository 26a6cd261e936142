#pragma once

#include <cstdint>
#include <optional>

namespace minivm {

/// Turns the guest's CLOCK_BOOTTIME into the host's CLOCK_MONOTONIC. Both count the same nanoseconds, from different
/// moments; each message that carries its sender's time bounds the difference from one side. The stamps are the
/// guest's word: when they contradict each other there is no answer.
class GuestClock {
 public:
  /// A message that the guest stamped `guest_ns` was here at `host_ns`.
  void heard(std::uint64_t guest_ns, std::int64_t host_ns) noexcept;
  /// What was sent here at `host_ns` was in the guest by `guest_ns`.
  void answered(std::int64_t host_ns, std::uint64_t guest_ns) noexcept;

  std::optional<std::int64_t> to_host(std::uint64_t guest_ns) const noexcept;
  /// How far off `to_host` may be, either way.
  std::int64_t error() const noexcept;

 private:
  std::optional<std::int64_t> most_;   // host less guest is at most this
  std::optional<std::int64_t> least_;  // and at least this
};

}  // namespace minivm

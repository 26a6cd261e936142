#include "vmm/guest_clock.h"

#include <algorithm>

namespace minivm {
namespace {

/// Longer than any machine runs, and short enough that sums and differences of two fit an int64_t.
constexpr std::uint64_t longest_ns = std::uint64_t{1} << 61;

}  // namespace

void GuestClock::heard(std::uint64_t guest_ns, std::int64_t host_ns) noexcept {
  if (guest_ns > longest_ns) return;
  const std::int64_t difference = host_ns - static_cast<std::int64_t>(guest_ns);
  most_ = most_ ? std::min(*most_, difference) : difference;
}

void GuestClock::answered(std::int64_t host_ns, std::uint64_t guest_ns) noexcept {
  if (guest_ns > longest_ns) return;
  const std::int64_t difference = host_ns - static_cast<std::int64_t>(guest_ns);
  least_ = least_ ? std::max(*least_, difference) : difference;
}

std::optional<std::int64_t> GuestClock::to_host(std::uint64_t guest_ns) const noexcept {
  if (guest_ns > longest_ns || !most_ || !least_ || *least_ > *most_) return std::nullopt;
  return *least_ + (*most_ - *least_) / 2 + static_cast<std::int64_t>(guest_ns);
}

std::int64_t GuestClock::error() const noexcept { return most_ && least_ ? (*most_ - *least_ + 1) / 2 : 0; }

}  // namespace minivm

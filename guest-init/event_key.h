#pragma once

#include <cstdint>

namespace minivm::guest {

/// What an epoll event belongs to. The generation tells a session from an earlier one in the same slot, of which an
/// event may still be on its way.
struct EventKey {
  static constexpr std::uint16_t control = 0xffff;  // slots that are no session's
  static constexpr std::uint16_t children = 0xfffe;
  static constexpr std::uint16_t page_reports = 0xfffd;

  std::uint32_t generation = 0;
  std::uint16_t slot = 0;
  std::uint16_t source = 0;

  std::uint64_t pack() const noexcept {
    return std::uint64_t{generation} << 32 | std::uint64_t{slot} << 16 | std::uint64_t{source};
  }
  static EventKey unpack(std::uint64_t packed) noexcept {
    return {static_cast<std::uint32_t>(packed >> 32), static_cast<std::uint16_t>(packed >> 16),
            static_cast<std::uint16_t>(packed)};
  }
};

/// Adds `fd`, or with `again` makes what is ready now count as news. Edge-triggered: whoever gets the event goes on
/// until EAGAIN, so that a hung-up end that nothing can be done about does not spin. Returns 0 or errno.
int watch(int epoll, int fd, EventKey key, bool again = false) noexcept;

}  // namespace minivm::guest

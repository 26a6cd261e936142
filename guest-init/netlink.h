#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "freestanding/fd.h"

namespace minivm::guest {

/// One request after the other to the kernel's routing tables (rtnetlink(7)): `begin`, any number of `add`, `send`.
class Netlink {
 public:
  Netlink() noexcept;

  /// Starts a request of `type`, RTM_NEWADDR for instance, with its fixed part.
  template <typename Fixed>
  void begin(std::uint16_t type, std::uint16_t flags, const Fixed& fixed) noexcept {
    start(type, flags, std::as_bytes(std::span(&fixed, 1)));
  }
  /// Adds an attribute, which must fit: requests are small.
  void add(std::uint16_t type, std::span<const std::byte> value) noexcept;
  /// Waits for the kernel's answer: 0 or errno.
  int send() noexcept;

 private:
  void start(std::uint16_t type, std::uint16_t flags, std::span<const std::byte> fixed) noexcept;
  void append(std::span<const std::byte> bytes) noexcept;

  Fd socket_;
  std::uint32_t sequence_ = 0;
  std::size_t size_ = 0;
  alignas(nlmsghdr) std::byte buffer_[256];
};

}  // namespace minivm::guest

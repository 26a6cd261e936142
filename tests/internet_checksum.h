#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace minivm::test {

/// The sum of 16-bit words that Internet checksums are made of (RFC 1071), big-endian.
inline std::uint16_t internet_sum(std::span<const std::uint8_t> bytes) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) sum += static_cast<std::uint32_t>(bytes[i]) << (i % 2 == 0 ? 8 : 0);
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

/// The checksum of what has none yet.
inline std::uint16_t internet_checksum(std::span<const std::uint8_t> bytes) {
  return static_cast<std::uint16_t>(~internet_sum(bytes));
}

}  // namespace minivm::test

#include "devices/virtio/net_header.h"

#include <algorithm>

namespace minivm::virtio {
namespace {

/// The feature that allows a GSO type; 0 for a type that there is not.
std::uint64_t feature_of(std::uint8_t gso_type) noexcept {
  switch (gso_type) {
    case net::gso_tcpv4:
      return net::feature_host_tso4;
    case net::gso_tcpv6:
      return net::feature_host_tso6;
    case net::gso_udp_l4:
      return net::feature_host_uso;
    default:
      return 0;
  }
}

}  // namespace

std::optional<net::Header> judge_header(const net::Header& header, std::size_t frame_size,
                                        std::uint64_t features) noexcept {
  if (frame_size < net::ethernet_header_size || frame_size > net::max_frame_size) return std::nullopt;
  // All other flags are the device's to set.
  const bool needs_csum = (header.flags & net::header_needs_csum) != 0;
  const auto type = static_cast<std::uint8_t>(header.gso_type & ~net::gso_ecn);
  net::Header judged;
  if (needs_csum) {
    const std::size_t csum_end = std::size_t{header.csum_start} + header.csum_offset + sizeof(std::uint16_t);
    if ((features & net::feature_csum) == 0 || csum_end > frame_size) return std::nullopt;
    judged.flags = net::header_needs_csum;
    judged.csum_start = header.csum_start;
    judged.csum_offset = header.csum_offset;
  }
  if (type == net::gso_none) return judged;
  const bool has_ecn = type != header.gso_type;
  if ((features & feature_of(type)) == 0 || (has_ecn && (features & net::feature_host_ecn) == 0)) return std::nullopt;
  // VirtIO 1.2, 5.1.6.2.1: a segmented frame leaves the checksums to the device, too.
  if (!needs_csum || header.gso_size == 0) return std::nullopt;
  judged.gso_type = header.gso_type;
  judged.gso_size = header.gso_size;
  // No more than a hint, but the kernel takes its word for how much to keep in one piece.
  judged.hdr_len = static_cast<std::uint16_t>(std::min<std::size_t>(header.hdr_len, frame_size));
  return judged;
}

}  // namespace minivm::virtio

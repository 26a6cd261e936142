#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "devices/virtio/spec.h"

namespace minivm::virtio {

/// Judges the header that a driver put before a frame of `frame_size` bytes (VirtIO 1.2, 5.1.6.2): what comes out may
/// be handed to the host's kernel. Nothing when the header asks for what was not negotiated, or points outside the
/// frame. `features` are the acknowledged ones.
std::optional<net::Header> judge_header(const net::Header& header, std::size_t frame_size,
                                        std::uint64_t features) noexcept;

}  // namespace minivm::virtio

#pragma once

#include <cstdint>

#include "devices/virtio/disk_image.h"

namespace minivm::virtio {

/// Gives the host back the space behind [offset, offset + size), whose contents are lost; the size of the disk stays.
/// 0 or an errno; EOPNOTSUPP when this file system or device cannot. May block.
int discard(const DiskImage& image, std::uint64_t offset, std::uint64_t size) noexcept;

/// Makes [offset, offset + size) read as zeros, and with `may_unmap` gives its space back if the host can. 0 or an
/// errno. May block, longest where the host cannot do better than to write.
int write_zeroes(const DiskImage& image, std::uint64_t offset, std::uint64_t size, bool may_unmap) noexcept;

}  // namespace minivm::virtio

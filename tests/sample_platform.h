#pragma once

#include <cstdint>

#include "boot/layout.h"
#include "boot/platform.h"

namespace minivm::test {

/// A machine with so many CPUs and virtio-mmio slots, placed as layout.h places them.
inline boot::Platform sample_platform(std::uint32_t cpus, std::uint32_t slots) {
  boot::Platform platform{.cpus = cpus, .virtio = {}};
  for (std::uint32_t i = 0; i < slots; ++i) {
    platform.virtio.push_back(
        {layout::virtio_mmio + i * layout::virtio_mmio_stride, layout::virtio_mmio_size, layout::first_virtio_gsi + i});
  }
  return platform;
}

}  // namespace minivm::test

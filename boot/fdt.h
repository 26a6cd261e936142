#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "boot/platform.h"

namespace minivm::boot {

/// A flattened device tree that describes `platform` to an x86 kernel with CONFIG_OF_EARLY_FLATTREE (setup_data type
/// SETUP_DTB; Linux, arch/x86/kernel/devicetree.c). Memory and command line are not in it: x86 takes them from
/// boot_params. Throws std::runtime_error when libfdt refuses.
std::vector<std::byte> build_fdt(const Platform& platform);

/// The kernel parameters that announce the virtio devices to a kernel with CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES:
/// "virtio_mmio.device=0x200@0xd0000000:5 ...", one for each slot; empty without slots.
std::string virtio_mmio_parameters(const Platform& platform);

}  // namespace minivm::boot

#pragma once

#include <string>

#include "base/guest_memory.h"
#include "boot/cpu_state.h"
#include "boot/initramfs.h"
#include "boot/kernel.h"
#include "boot/platform.h"

namespace minivm::boot {

/// All that a boot puts into guest memory.
struct BootPlan {
  const Kernel& kernel;
  const Initramfs& initramfs;
  const Platform& platform;
  std::string command_line;  // device discovery is added to it where the kernel reads it from there
  Discovery discovery = Discovery::automatic;
};

/// What `kernel` can reach virtio devices on, by its configuration: MMIO when it has both, or when that is unknown.
/// Throws std::runtime_error that names the option it lacks.
Transport choose_transport(const Kernel& kernel, Transport wanted);

/// The spelling of the platform that `kernel` understands, by its configuration; ACPI when that is unknown. Throws
/// std::runtime_error that names the options it lacks, for `wanted` or for all.
Discovery choose_discovery(const Kernel& kernel, Discovery wanted);

/// Fills guest memory: kernel, initramfs, command line, firmware tables, page tables. Returns where the first vCPU
/// starts. Throws std::runtime_error that names what does not fit.
CpuState load(GuestMemory& memory, const BootPlan& plan);

}  // namespace minivm::boot

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "boot/kernel.h"
#include "boot/platform.h"
#include "minivm/config.h"

namespace minivm {

/// A part of the kernel that this guest needs.
struct KernelNeed {
  std::string_view option;  // "CONFIG_VIRTIO_BLK"
  std::string_view module;  // "virtio_blk"
  bool required = true;     // without it the guest cannot do what was asked
};

/// What the guest described by `config` needs, with its devices on `transport`; `root_filesystem` is what its root disk
/// holds, empty when unknown.
std::vector<KernelNeed> kernel_needs(const MachineConfig& config, boot::Transport transport,
                                     const std::string& root_filesystem);

/// Whether there is a virtio-rng device: a kernel that has RDRAND and the boot protocol's seed needs none.
bool uses_random_device(const MachineConfig& config) noexcept;

/// Whether the guest's console is on virtio-console.
bool uses_console_port(const MachineConfig& config, const boot::Kernel& kernel);

/// The module files to load, in order, so that all `needs` are met. Throws std::runtime_error that names the option
/// or the module when a required one is missing.
std::vector<std::string> find_guest_modules(const boot::Kernel& kernel, const std::string& module_directory,
                                            const std::vector<KernelNeed>& needs);

/// What no module can bring: throws std::runtime_error that names the option that PID 1 would miss, and warns of a
/// console that stays silent. A kernel whose configuration cannot be read is believed.
void check_built_in(const boot::Kernel& kernel);

}  // namespace minivm

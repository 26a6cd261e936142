#include "vmm/guest_modules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string_view>

#include "base/log.h"
#include "boot/modules.h"
#include "vmm/cpuid.h"

namespace minivm {
namespace {

struct FilesystemNeed {
  std::string_view filesystem;
  KernelNeed need;
};

constexpr std::array filesystem_needs{
    FilesystemNeed{"ext4", {"CONFIG_EXT4_FS", "ext4"}},    FilesystemNeed{"squashfs", {"CONFIG_SQUASHFS", "squashfs"}},
    FilesystemNeed{"erofs", {"CONFIG_EROFS_FS", "erofs"}}, FilesystemNeed{"xfs", {"CONFIG_XFS_FS", "xfs"}},
    FilesystemNeed{"btrfs", {"CONFIG_BTRFS_FS", "btrfs"}}, FilesystemNeed{"f2fs", {"CONFIG_F2FS_FS", "f2fs"}},
};

/// The needs that no built-in part of the kernel meets. Without a configuration, all of them.
std::vector<KernelNeed> needs_from_modules(const boot::Kernel& kernel, const std::vector<KernelNeed>& needs) {
  std::vector<KernelNeed> left;
  for (const KernelNeed& need : needs) {
    using Value = boot::KernelConfig::Value;
    const Value value = kernel.config() ? kernel.config()->value(need.option) : Value::module;
    if (value == Value::off && need.required) {
      throw std::runtime_error(fmt::format("kernel {}: was built without {}", kernel.path(), need.option));
    }
    if (value == Value::module) left.push_back(need);
  }
  return left;
}

// PID 1 comes in an initramfs, and finds disks and terminals in /dev.
constexpr std::array<std::string_view, 5> built_in_needs{"CONFIG_64BIT", "CONFIG_BLK_DEV_INITRD", "CONFIG_BINFMT_ELF",
                                                         "CONFIG_DEVTMPFS", "CONFIG_PROC_FS"};

}  // namespace

std::vector<KernelNeed> kernel_needs(const MachineConfig& config, boot::Transport transport,
                                     const std::string& root_filesystem) {
  std::vector<KernelNeed> needs{
      transport == boot::Transport::pci ? KernelNeed{"CONFIG_VIRTIO_PCI", "virtio_pci"}
                                        : KernelNeed{"CONFIG_VIRTIO_MMIO", "virtio_mmio"},
      {"CONFIG_VIRTIO_VSOCKETS", "vmw_vsock_virtio_transport"},
      {"CONFIG_VIRTIO_BALLOON", "virtio_balloon", false},
  };
  if (uses_random_device(config)) needs.push_back({"CONFIG_HW_RANDOM_VIRTIO", "virtio_rng", false});
  if (config.console_port == ConsolePort::virtio) needs.push_back({"CONFIG_VIRTIO_CONSOLE", "virtio_console"});
  const bool root_disk = config.root.kind == Root::Kind::disk;
  if (root_disk || !config.disks.empty()) needs.push_back({"CONFIG_VIRTIO_BLK", "virtio_blk"});
  if (config.network.kind != Network::Kind::none) needs.push_back({"CONFIG_VIRTIO_NET", "virtio_net"});
  if (root_disk) {
    const auto known = std::ranges::find(filesystem_needs, root_filesystem, &FilesystemNeed::filesystem);
    if (known != filesystem_needs.end()) needs.push_back(known->need);
  }
  if (config.root.throw_away) needs.push_back({"CONFIG_OVERLAY_FS", "overlay"});
  return needs;
}

bool uses_random_device(const MachineConfig& config) noexcept { return config.random_device || !has_rdrand(); }

bool uses_console_port(const MachineConfig& config, const boot::Kernel& kernel) {
  if (config.console_port != ConsolePort::automatic) return config.console_port == ConsolePort::virtio;
  return kernel.config() && kernel.config()->built_in("CONFIG_VIRTIO_CONSOLE");
}

std::vector<std::string> find_guest_modules(const boot::Kernel& kernel, const std::string& module_directory,
                                            const std::vector<KernelNeed>& needs) {
  const std::vector<KernelNeed> modular = needs_from_modules(kernel, needs);
  if (modular.empty()) return {};
  if (module_directory.empty()) {
    if (!kernel.config()) {
      log::info("kernel {}: neither its configuration nor its modules are known: taken to have all built in",
                kernel.path());
      return {};
    }
    const std::string_view module = modular.front().module;
    throw std::runtime_error(
        fmt::format("modules: kernel {} has {} as a module, and there is neither --modules nor /lib/modules/{}",
                    kernel.path(), module, kernel.release()));
  }
  std::vector<std::string_view> names;
  names.reserve(modular.size());
  for (const KernelNeed& need : modular) names.push_back(need.module);
  std::vector<std::string> missing;
  std::vector<std::string> files = boot::ModuleTree(module_directory).resolve(names, missing);
  for (const KernelNeed& need : modular) {
    if (need.required && std::ranges::find(missing, need.module) != missing.end()) {
      throw std::runtime_error(
          fmt::format("modules {}: no module {} ({})", module_directory, need.module, need.option));
    }
  }
  return files;
}

void check_built_in(const boot::Kernel& kernel) {
  if (!kernel.config()) return;
  for (const std::string_view option : built_in_needs) {
    if (!kernel.config()->built_in(option)) {
      throw std::runtime_error(fmt::format("kernel {}: was built without {}", kernel.path(), option));
    }
  }
  if (!kernel.config()->built_in("CONFIG_SERIAL_8250_CONSOLE")) {
    log::warning("kernel {}: was built without CONFIG_SERIAL_8250_CONSOLE: its console will say nothing",
                 kernel.path());
  }
}

}  // namespace minivm

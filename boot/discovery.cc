#include <fmt/format.h>

#include <stdexcept>

#include "boot/boot.h"

namespace minivm::boot {

Discovery choose_discovery(const Kernel& kernel, Discovery wanted) {
  if (wanted != Discovery::automatic) return wanted;
  const auto& config = kernel.config();
  if (!config) return Discovery::acpi;
  if (config->value("CONFIG_VIRTIO_MMIO") == KernelConfig::Value::off) {
    throw std::runtime_error(
        fmt::format("kernel {}: cannot use virtio devices: CONFIG_VIRTIO_MMIO is off", kernel.path()));
  }
  if (config->built_in("CONFIG_ACPI")) return Discovery::acpi;
  if (config->built_in("CONFIG_OF")) return Discovery::fdt;
  if (config->built_in("CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES")) return Discovery::command_line;
  throw std::runtime_error(
      fmt::format("kernel {}: cannot find virtio devices: CONFIG_ACPI, CONFIG_OF and "
                  "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES are all off",
                  kernel.path()));
}

}  // namespace minivm::boot

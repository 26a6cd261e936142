#include <fmt/format.h>

#include <array>
#include <stdexcept>
#include <string_view>

#include "boot/boot.h"

namespace minivm::boot {
namespace {

struct Way {
  Discovery discovery;
  std::string_view option;  // what the kernel must have built in for it
};

// In order of preference. CONFIG_OF alone does not make an x86 kernel read the tree that its loader passes.
constexpr std::array ways{Way{Discovery::acpi, "CONFIG_ACPI"}, Way{Discovery::fdt, "CONFIG_OF_EARLY_FLATTREE"},
                          Way{Discovery::command_line, "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES"}};

// All that virtio-pci takes: its function is found by ACPI, configured through memory, and interrupts by MSI-X.
constexpr std::array pci_options{std::string_view("CONFIG_ACPI"), std::string_view("CONFIG_PCI_MMCONFIG"),
                                 std::string_view("CONFIG_PCI_MSI")};

[[noreturn]] void refuse(const Kernel& kernel, std::string_view what, std::string_view why) {
  throw std::runtime_error(fmt::format("kernel {}: cannot {}: {}", kernel.path(), what, why));
}

}  // namespace

Transport choose_transport(const Kernel& kernel, Transport wanted) {
  const auto& config = kernel.config();
  if (!config) return wanted == Transport::automatic ? Transport::mmio : wanted;
  const bool has_mmio = config->value("CONFIG_VIRTIO_MMIO") != KernelConfig::Value::off;
  const bool has_pci = config->value("CONFIG_VIRTIO_PCI") != KernelConfig::Value::off;
  if (wanted == Transport::automatic && !has_mmio && !has_pci) {
    refuse(kernel, "use virtio devices", "CONFIG_VIRTIO_MMIO and CONFIG_VIRTIO_PCI are both off");
  }
  if (wanted == Transport::mmio || (wanted == Transport::automatic && has_mmio)) {
    if (!has_mmio) refuse(kernel, "use virtio devices as asked", "CONFIG_VIRTIO_MMIO is off");
    return Transport::mmio;
  }
  if (!has_pci) refuse(kernel, "use virtio devices as asked", "CONFIG_VIRTIO_PCI is off");
  for (const std::string_view option : pci_options) {
    if (!config->built_in(option)) refuse(kernel, "use virtio devices over PCI", fmt::format("{} is off", option));
  }
  return Transport::pci;
}

Discovery choose_discovery(const Kernel& kernel, Discovery wanted) {
  const auto& config = kernel.config();
  if (!config) return wanted == Discovery::automatic ? Discovery::acpi : wanted;
  for (const Way& way : ways) {
    if (wanted != Discovery::automatic && wanted != way.discovery) continue;
    if (config->built_in(way.option)) return way.discovery;
    if (wanted == way.discovery) refuse(kernel, "find virtio devices as asked", fmt::format("{} is off", way.option));
  }
  refuse(kernel, "find virtio devices",
         fmt::format("{}, {} and {} are all off", ways[0].option, ways[1].option, ways[2].option));
}

}  // namespace minivm::boot

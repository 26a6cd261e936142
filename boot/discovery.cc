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

}  // namespace

Discovery choose_discovery(const Kernel& kernel, Discovery wanted) {
  const auto& config = kernel.config();
  if (!config) return wanted == Discovery::automatic ? Discovery::acpi : wanted;
  const auto refuse = [&](std::string_view what, std::string_view why) {
    throw std::runtime_error(fmt::format("kernel {}: cannot {}: {}", kernel.path(), what, why));
  };
  if (config->value("CONFIG_VIRTIO_MMIO") == KernelConfig::Value::off) {
    refuse("use virtio devices", "CONFIG_VIRTIO_MMIO is off");
  }
  for (const Way& way : ways) {
    if (wanted != Discovery::automatic && wanted != way.discovery) continue;
    if (config->built_in(way.option)) return way.discovery;
    if (wanted == way.discovery) refuse("find virtio devices as asked", fmt::format("{} is off", way.option));
  }
  refuse("find virtio devices",
         fmt::format("{}, {} and {} are all off", ways[0].option, ways[1].option, ways[2].option));
  return wanted;
}

}  // namespace minivm::boot

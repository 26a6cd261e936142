#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/guest_memory.h"

namespace minivm::boot {

/// One virtio-mmio device, as the guest is told about it.
struct VirtioMmioSlot {
  std::uint64_t address = 0;
  std::uint64_t size = 0;
  std::uint32_t gsi = 0;
};

/// A PCI bus without bridges, as the guest is told about it.
struct PciBus {
  std::uint64_t config_address = 0;  // memory-mapped configuration space
  std::uint64_t config_size = 0;
  std::uint64_t window_address = 0;  // where the BARs lie
  std::uint64_t window_size = 0;
};

/// What firmware tables describe: ACPI, FDT and the command line are three spellings of this.
struct Platform {
  std::uint32_t cpus = 1;  // APIC IDs 0 to cpus-1
  std::vector<VirtioMmioSlot> virtio;
  std::optional<PciBus> pci;
};

/// How the guest learns of its devices.
enum class Discovery : std::uint8_t { automatic, acpi, fdt, command_line };

/// What virtio devices sit on.
enum class Transport : std::uint8_t { automatic, mmio, pci };

}  // namespace minivm::boot

#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "devices/bus.h"
#include "devices/pci/function.h"
#include "devices/pci/spec.h"

namespace minivm::pci {

/// The memory-mapped configuration space of one PCI bus without bridges (PCI Express 3.0, 7.2.2): one access of the
/// guest is one exit, where the ports of configuration mechanism 1 take two. Fixed before the vCPUs start, so it needs
/// no lock.
class Host final : public BusDevice {
 public:
  /// Makes `function` the only one of `device`, a number below devices_per_bus; it outlives the host.
  void add(std::uint32_t device, Function& function) { functions_.at(device) = &function; }

  /// What is not there reads as all ones (PCI Local Bus 3.0, 6.1).
  void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;

 private:
  Function* find(std::uint64_t offset) const noexcept;

  std::array<Function*, devices_per_bus> functions_{};
};

}  // namespace minivm::pci

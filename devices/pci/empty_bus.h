#pragma once

#include <atomic>
#include <cstdint>

#include "devices/bus.h"

namespace minivm::pci {

/// The two ports of configuration mechanism #1 (PCI Local Bus 3.0, 3.2.2.3.2) on a machine without PCI: the address
/// register keeps what is written to it, and nobody answers at any address. A kernel that finds no mechanism at all
/// calls that fatal on its console. Any thread.
class EmptyBus final : public BusDevice {
 public:
  static constexpr std::uint16_t port = 0xCF8;
  static constexpr std::uint16_t port_count = 8;

  void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;

 private:
  std::atomic<std::uint32_t> address_ = 0;
};

}  // namespace minivm::pci

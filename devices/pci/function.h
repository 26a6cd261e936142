#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace minivm::pci {

/// One function of a PCI device, as configuration accesses reach it (PCI Local Bus 3.0, 6). Any vCPU's thread: an
/// implementation guards its own state.
class Function {
 public:
  virtual ~Function() = default;

  /// Fills all of `data`. Offset and size come from the guest: any offset below 4 KiB, 1 to 8 bytes.
  virtual void read_config(std::uint64_t offset, std::span<std::byte> data) noexcept = 0;
  virtual void write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept = 0;
};

}  // namespace minivm::pci

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace minivm {

/// Registers that the guest reaches by port I/O or MMIO exits. Called on any vCPU's thread, so an implementation
/// guards its own state. Offset and size come from the guest: any offset below the mapped size, 1 to 8 bytes.
class BusDevice {
 public:
  virtual ~BusDevice() = default;

  /// Fills all of `data`.
  virtual void read(std::uint64_t offset, std::span<std::byte> data) noexcept = 0;
  virtual void write(std::uint64_t offset, std::span<const std::byte> data) noexcept = 0;
};

/// An address space of devices: sorted ranges, fixed before the vCPUs start, so no lock is needed.
class Bus {
 public:
  /// Maps [base, base + size) to `device`, which outlives the bus. Throws std::logic_error on overlap.
  void map(std::uint64_t base, std::uint64_t size, BusDevice& device);

  /// False when no device covers the whole access; a read then fills `data` with 0xFF, as an empty bus does.
  bool read(std::uint64_t address, std::span<std::byte> data) const noexcept;
  bool write(std::uint64_t address, std::span<const std::byte> data) const noexcept;

 private:
  struct Mapping {
    std::uint64_t base;
    std::uint64_t size;
    BusDevice* device;
  };

  const Mapping* find(std::uint64_t address, std::size_t size) const noexcept;

  std::vector<Mapping> mappings_;
};

}  // namespace minivm

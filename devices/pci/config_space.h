#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace minivm::pci {

/// The 256 bytes of a function's configuration space (PCI Local Bus 3.0, 6.1), each bit of them writable by the guest
/// or not. Not synchronised.
class ConfigSpace {
 public:
  static constexpr std::size_t size = 256;

  /// For the device: sets a field, whatever the guest may do to it.
  template <typename T>
  void set(std::size_t offset, T value) noexcept {
    put(offset, std::as_bytes(std::span(&value, 1)));
  }
  /// Lets the guest change the bits of `mask`.
  template <typename T>
  void allow_writes(std::size_t offset, T mask) noexcept {
    allow(offset, std::as_bytes(std::span(&mask, 1)));
  }
  template <typename T>
  T get(std::size_t offset) const noexcept {
    T value{};
    read(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

  /// Adds a capability with this `body`, which follows its ID and its link, to the list (6.7); returns where it is.
  /// Throws std::logic_error when there is no room.
  std::uint8_t add_capability(std::uint8_t id, std::span<const std::byte> body);

  /// For the guest; bytes beyond the end read as zero and ignore writes.
  void read(std::uint64_t offset, std::span<std::byte> data) const noexcept;
  void write(std::uint64_t offset, std::span<const std::byte> data) noexcept;

 private:
  void put(std::size_t offset, std::span<const std::byte> bytes) noexcept;
  void allow(std::size_t offset, std::span<const std::byte> mask) noexcept;

  std::array<std::byte, size> bytes_{};
  std::array<std::byte, size> writable_{};
  std::size_t link_ = 0;  // where the offset of the next capability goes; 0: there is none yet
  std::size_t end_ = 0;   // of the last capability
};

}  // namespace minivm::pci

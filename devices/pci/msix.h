#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/fd.h"

namespace minivm::pci {

/// The memory write that is an interrupt (PCI Local Bus 3.0, 6.8.1).
struct MsiMessage {
  std::uint64_t address = 0;
  std::uint32_t data = 0;
  bool operator==(const MsiMessage&) const = default;
};

/// A function's MSI-X table and pending bits (PCI Local Bus 3.0, 6.8.2). Each vector has an eventfd, bound by irqfd to
/// a GSI whose message is told through `connect`; an interrupt that comes while its vector is masked waits in the
/// pending bits. Any thread.
class Msix {
 public:
  /// Sends what the eventfd of `vector` signals as `message` from now on. Called when a vector that can fire has
  /// another message than the last time, so not for the many writes to masked vectors. vCPU threads, one at a time.
  using Connect = std::move_only_function<void(std::uint16_t vector, const MsiMessage& message)>;

  Msix(std::uint16_t vectors, Connect connect);

  std::uint16_t size() const noexcept { return static_cast<std::uint16_t>(vectors_.size()); }
  int fd(std::uint16_t vector) const noexcept { return vectors_[vector].line.fd(); }

  /// Interrupts the guest; nothing happens while MSI-X is off, or when there is no such vector.
  void signal(std::uint16_t vector) noexcept;

  /// The message control register was written.
  void set_control(std::uint16_t control) noexcept;
  // The table and the pending bits, at any offset; what lies beyond reads as zero.
  void read_table(std::uint64_t offset, std::span<std::byte> data) const noexcept;
  /// Aligned writes of 4 or 8 bytes; others are ignored.
  void write_table(std::uint64_t offset, std::span<const std::byte> data) noexcept;
  void read_pending(std::uint64_t offset, std::span<std::byte> data) const noexcept;

 private:
  struct Vector {
    EventFd line;
    // Address, upper address, data, vector control: masked after a reset.
    std::array<std::uint32_t, 4> entry{0, 0, 0, 1};
    bool pending = false;
    std::optional<MsiMessage> connected;
  };

  std::uint32_t word(std::size_t index) const noexcept;
  bool masked(const Vector& vector) const noexcept;
  void update(std::uint16_t index) noexcept;

  Connect connect_;
  mutable std::mutex mutex_;  // guards what follows; eventfds are made once
  std::vector<Vector> vectors_;
  bool enabled_ = false;
  bool all_masked_ = false;
};

}  // namespace minivm::pci

#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "base/fd.h"

namespace minivm::virtio {

/// How a device tells its driver that something happened (VirtIO 1.2, 2.3); the transport decides by which way. Any
/// thread.
class Interrupt {
 public:
  // The causes, as the interrupt status registers of both transports number them (VirtIO 1.2, 4.1.4.5 and 4.2.2).
  static constexpr std::uint32_t used_buffer = 1U << 0;
  static constexpr std::uint32_t configuration_change = 1U << 1;

  virtual ~Interrupt() = default;

  /// The device has returned buffers of `queue`.
  void signal_used(std::uint16_t queue) noexcept { signal_used(std::span(&queue, 1)); }
  /// The same for several queues at once: a driver that cannot tell them apart is interrupted once.
  virtual void signal_used(std::span<const std::uint16_t> queues) noexcept = 0;
  /// Configuration space or the device status has changed.
  virtual void signal_configuration() noexcept = 0;
};

/// The causes of interrupts that the driver has not acknowledged.
class InterruptStatus {
 public:
  std::uint32_t read() const noexcept { return bits_.load(std::memory_order_acquire); }
  void add(std::uint32_t bits) noexcept { bits_.fetch_or(bits, std::memory_order_release); }
  void acknowledge(std::uint32_t bits) noexcept { bits_.fetch_and(~bits, std::memory_order_acq_rel); }
  std::uint32_t take() noexcept { return bits_.exchange(0, std::memory_order_acq_rel); }

 private:
  std::atomic<std::uint32_t> bits_{0};
};

/// One line for all causes, and the InterruptStatus register that tells them apart (VirtIO 1.2, 4.2.2). The eventfd
/// is bound to a GSI by irqfd, edge-triggered: each signal is one edge.
class InterruptLine final : public Interrupt {
 public:
  int fd() const noexcept { return line_.fd(); }

  using Interrupt::signal_used;
  void signal_used(std::span<const std::uint16_t>) noexcept override { raise(used_buffer); }
  void signal_configuration() noexcept override { raise(configuration_change); }

  std::uint32_t status() const noexcept { return status_.read(); }
  void acknowledge(std::uint32_t bits) noexcept { status_.acknowledge(bits); }
  /// At device reset: forgets the causes; an edge on its way is spurious and harmless.
  void clear() noexcept { status_.take(); }

 private:
  void raise(std::uint32_t bit) noexcept {
    // The cause must be readable before the edge makes the driver look for it.
    status_.add(bit);
    line_.signal();
  }

  EventFd line_;
  InterruptStatus status_;
};

}  // namespace minivm::virtio

#pragma once

#include <atomic>
#include <cstdint>

#include "base/fd.h"

namespace minivm::virtio {

/// A device's interrupt line and its InterruptStatus register (VirtIO 1.2, 4.2.2). The eventfd is bound to a GSI by
/// irqfd, edge-triggered: each signal is one edge. Any thread.
class Interrupt {
 public:
  static constexpr std::uint32_t used_buffer = 1U << 0;
  static constexpr std::uint32_t configuration_change = 1U << 1;

  int fd() const noexcept { return line_.fd(); }

  void signal_used() noexcept { raise(used_buffer); }
  void signal_configuration() noexcept { raise(configuration_change); }

  std::uint32_t status() const noexcept { return status_.load(std::memory_order_acquire); }
  void acknowledge(std::uint32_t bits) noexcept { status_.fetch_and(~bits, std::memory_order_acq_rel); }
  /// At device reset: forgets the causes; an edge on its way is spurious and harmless.
  void clear() noexcept { acknowledge(~0U); }

 private:
  void raise(std::uint32_t bit) noexcept {
    // The cause must be readable before the edge makes the driver look for it.
    status_.fetch_or(bit, std::memory_order_release);
    line_.signal();
  }

  EventFd line_;
  std::atomic<std::uint32_t> status_{0};
};

}  // namespace minivm::virtio

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "devices/virtio/config_space.h"
#include "devices/virtio/interrupt.h"
#include "devices/virtio/virtqueue.h"

namespace minivm::virtio {

/// What a device gets when the driver sets DRIVER_OK: the one hand-over from registers to rings.
struct Activation {
  /// The feature bits that the driver acknowledged. Devices act on these, never on what they offered.
  std::uint64_t features = 0;
  /// One entry for each queue of the device; empty where the driver did not enable it.
  std::vector<std::optional<Virtqueue>> queues;
  /// Lives as long as the device does.
  Interrupt* interrupt = nullptr;
  /// Call when the driver broke a ring beyond use: the transport sets DEVICE_NEEDS_RESET and tells the driver
  /// (VirtIO 1.2, 2.1.2).
  std::move_only_function<void()> needs_reset;
  /// Asks for one more `on_notify` of a queue, after the loop has served others: for a device that stops in the middle
  /// of a long queue. The loop's thread.
  std::move_only_function<void(std::uint16_t queue)> call_again;
};

/// A virtio device behind any transport (VirtIO 1.2, 2). `type`, `features` and `queue_sizes` never change;
/// what concerns configuration is called on vCPU threads, one call at a time; `activate`, `on_notify` and `reset` on
/// the device's event-loop thread.
class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;

  /// The device ID (VirtIO 1.2, 5).
  virtual std::uint32_t type() const noexcept = 0;
  /// All that is offered, the transport's and the ring's bits included.
  virtual std::uint64_t features() const noexcept = 0;
  /// The largest size of each queue, in descriptors; their number is the number of queues.
  virtual std::span<const std::uint16_t> queue_sizes() const noexcept = 0;

  /// The driver's choice, at FEATURES_OK; 0 at a reset. For devices whose configuration space depends on it.
  virtual void features_accepted(std::uint64_t) noexcept {}
  /// Copies device-specific configuration space; bytes beyond its end read as zero.
  virtual void read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept = 0;
  /// The default ignores the write: most fields are read-only for the driver.
  virtual void write_config(std::uint64_t, std::span<const std::byte>) noexcept {}
  /// Another number after each change of the configuration space that the driver did not make itself (2.5.3.1).
  virtual std::uint32_t config_generation() const noexcept { return 0; }

  /// Called once between resets. The transport calls `on_notify` for each enabled queue right after it.
  virtual void activate(Activation activation) noexcept = 0;
  /// The driver has made buffers available in an enabled queue.
  virtual void on_notify(std::uint16_t queue) noexcept = 0;
  /// Ends all use of guest memory before it returns, and forgets the driver's state.
  virtual void reset() noexcept = 0;
};

}  // namespace minivm::virtio

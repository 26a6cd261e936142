#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/guest_memory.h"
#include "base/log.h"
#include "devices/virtio/device.h"

namespace minivm::virtio {

/// What the driver reads and writes of any device, whichever transport lays it out (VirtIO 1.2, 4.1.4.3 and 4.2.2).
enum class Register : std::uint8_t {
  device_features_sel,
  device_features,
  driver_features_sel,
  driver_features,
  status,
  config_generation,
  queue_count,
  queue_sel,
  queue_max_size,
  queue_size,
  queue_ready,
  queue_desc_low,
  queue_desc_high,
  queue_driver_low,
  queue_driver_high,
  queue_device_low,
  queue_device_high,
};

/// The state behind every transport's registers: feature negotiation, queue set-up and the device status as a state
/// machine. At DRIVER_OK the queues' registers, frozen from then on, become live queues in the device's hands; a reset
/// takes them back. The registers belong to the transport, which lets one thread in at a time; the device runs on the
/// loop's thread, which takes no lock of the transport. Both hand-overs wait for the loop's thread.
class DeviceRegisters {
 public:
  /// All four outlive the registers. Construct them before `loop` runs and destroy them after the loop has ended.
  /// Throws std::system_error when the host has no descriptor to give.
  DeviceRegisters(VirtioDevice& device, EventLoop& loop, const GuestMemory& memory, Interrupt& interrupt);
  ~DeviceRegisters();
  DeviceRegisters(const DeviceRegisters&) = delete;
  DeviceRegisters& operator=(const DeviceRegisters&) = delete;

  std::uint16_t queue_count() const noexcept { return static_cast<std::uint16_t>(notifications_.size()); }
  /// The eventfd to signal when the guest notifies of `queue`, without coming here.
  int notify_fd(std::uint16_t queue) const noexcept { return notifications_[queue].fd(); }

  std::uint32_t read(Register which) const noexcept;
  void write(Register which, std::uint32_t value) noexcept;
  /// The queue that queue_sel names; it need not exist.
  std::uint32_t selected_queue() const noexcept { return queue_sel_; }

  /// The driver notified of a queue by a register and not by the eventfd.
  void notify(std::uint32_t queue) noexcept;
  void read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept;
  void write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept;

 private:
  void write_driver_features(std::uint32_t value) noexcept;
  void write_queue(Register which, std::uint32_t value) noexcept;
  void write_status(std::uint32_t value) noexcept;
  bool features_acceptable() const noexcept;
  void activate() noexcept;
  void reset() noexcept;
  void reset_registers() noexcept;

  // The loop's thread.
  void start(Activation activation) noexcept;
  void stop() noexcept;
  void on_kick(std::uint16_t queue) noexcept;

  void needs_reset() noexcept;

  VirtioDevice& device_;
  EventLoop& loop_;
  const GuestMemory& memory_;
  Interrupt& interrupt_;
  std::vector<EventFd> notifications_;  // one per queue
  log::FaultLimit faults_;
  // Written by the transport's thread, except that the loop's thread adds DEVICE_NEEDS_RESET.
  std::atomic<std::uint32_t> status_{0};

  std::uint32_t device_features_sel_ = 0;
  std::uint32_t driver_features_sel_ = 0;
  std::uint32_t queue_sel_ = 0;
  std::uint64_t driver_features_ = 0;
  std::vector<QueueConfig> queues_;

  std::vector<bool> enabled_;  // the loop's thread: queues of the active device; none when it is not active
};

}  // namespace minivm::virtio

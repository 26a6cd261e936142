#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/guest_memory.h"
#include "base/log.h"
#include "devices/bus.h"
#include "devices/virtio/device.h"

namespace minivm::virtio {

/// The virtio-mmio register file (VirtIO 1.2, 4.2) in front of one device: feature negotiation, queue set-up and the
/// device status as a state machine. vCPU threads come through the registers under one mutex; the device runs on the
/// loop's thread, which never takes that mutex. At DRIVER_OK the queues' registers, frozen from then on, become live
/// queues in the device's hands; a reset takes them back. Both hand-overs wait for the loop's thread.
class MmioTransport final : public BusDevice {
 public:
  /// All four outlive the transport. Construct it before `loop` runs and destroy it after the loop has ended.
  /// Throws std::system_error when the host has no descriptor to give.
  MmioTransport(VirtioDevice& device, EventLoop& loop, const GuestMemory& memory, Interrupt& interrupt);
  ~MmioTransport() override;
  MmioTransport(const MmioTransport&) = delete;
  MmioTransport& operator=(const MmioTransport&) = delete;

  std::uint16_t queue_count() const noexcept { return static_cast<std::uint16_t>(notifications_.size()); }
  /// The eventfd to signal when the guest writes `queue` to the QueueNotify register, without coming here.
  int notify_fd(std::uint16_t queue) const noexcept { return notifications_[queue].fd(); }

  void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;

 private:
  // Registers: vCPU threads, under mutex_.
  std::uint32_t read_register(std::uint64_t offset) const noexcept;
  void write_register(std::uint64_t offset, std::uint32_t value) noexcept;
  void write_driver_features(std::uint32_t value) noexcept;
  void write_queue_register(std::uint64_t offset, std::uint32_t value) noexcept;
  void write_status(std::uint32_t value) noexcept;
  bool features_acceptable() const noexcept;
  void activate() noexcept;
  void reset() noexcept;

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
  // Written under mutex_, except that the loop's thread adds DEVICE_NEEDS_RESET.
  std::atomic<std::uint32_t> status_{0};

  std::mutex mutex_;  // guards what follows
  std::uint32_t device_features_sel_ = 0;
  std::uint32_t driver_features_sel_ = 0;
  std::uint32_t queue_sel_ = 0;
  std::uint64_t driver_features_ = 0;
  std::vector<QueueConfig> queues_;

  std::vector<bool> enabled_;  // the loop's thread: queues of the active device; none when it is not active
};

}  // namespace minivm::virtio

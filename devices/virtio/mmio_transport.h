#pragma once

#include <cstdint>
#include <mutex>
#include <span>

#include "base/log.h"
#include "devices/bus.h"
#include "devices/virtio/device_registers.h"
#include "devices/virtio/interrupt.h"

namespace minivm::virtio {

/// The virtio-mmio register file (VirtIO 1.2, 4.2): decodes offsets in front of one device's registers. vCPU threads,
/// one at a time by its mutex.
class MmioTransport final : public BusDevice {
 public:
  /// As DeviceRegisters' constructor.
  MmioTransport(VirtioDevice& device, EventLoop& loop, const GuestMemory& memory, InterruptLine& interrupt)
      : device_type_(device.type()), interrupt_(interrupt), registers_(device, loop, memory, interrupt) {}

  std::uint16_t queue_count() const noexcept { return registers_.queue_count(); }
  /// The eventfd to signal when the guest writes `queue` to the QueueNotify register, without coming here.
  int notify_fd(std::uint16_t queue) const noexcept { return registers_.notify_fd(queue); }

  void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;

 private:
  std::uint32_t read_register(std::uint64_t offset) const noexcept;
  void write_register(std::uint64_t offset, std::uint32_t value) noexcept;

  std::uint32_t device_type_;
  InterruptLine& interrupt_;
  log::FaultLimit faults_;
  std::mutex mutex_;
  DeviceRegisters registers_;  // guarded by mutex_
};

}  // namespace minivm::virtio

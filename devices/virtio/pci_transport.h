#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/log.h"
#include "devices/bus.h"
#include "devices/pci/config_space.h"
#include "devices/pci/function.h"
#include "devices/pci/msix.h"
#include "devices/virtio/device_registers.h"
#include "devices/virtio/interrupt.h"
#include "devices/virtio/spec.h"

namespace minivm::virtio {

/// A virtio device as a PCI function (VirtIO 1.2, 4.1), modern only: configuration space with the capabilities, and as
/// a BusDevice its one BAR of 4 KiB, which stays where it is put: a guest that moves it loses sight of it. Interrupts
/// are MSI-X messages, one vector for each queue and one for configuration changes; there is no interrupt pin, so a
/// driver that does not turn MSI-X on has to poll. vCPU threads, one at a time by its mutex; as an Interrupt any
/// thread.
class PciTransport final : public BusDevice, public pci::Function, public Interrupt {
 public:
  // The BAR: common configuration, ISR status, device configuration, notifications, MSI-X table and pending bits.
  static constexpr std::uint32_t bar_size = 0x1000;
  static constexpr std::uint32_t common_offset = 0x000;
  static constexpr std::uint32_t isr_offset = 0x080;
  static constexpr std::uint32_t device_offset = 0x100;
  static constexpr std::uint32_t device_size = 0x300;
  static constexpr std::uint32_t notify_offset = 0x400;
  static constexpr std::uint32_t notify_stride = 4;
  static constexpr std::uint32_t table_offset = 0x800;
  static constexpr std::uint32_t pending_offset = 0xF00;
  static constexpr std::uint16_t max_queues = 111;  // the table has room for one vector more

  /// As DeviceRegisters' constructor; `connect` is for Msix. Throws std::runtime_error when the device has too many
  /// queues.
  PciTransport(VirtioDevice& device, EventLoop& loop, const GuestMemory& memory, std::uint32_t bar_address,
               pci::Msix::Connect connect);

  std::uint16_t queue_count() const noexcept { return registers_.queue_count(); }
  int notify_fd(std::uint16_t queue) const noexcept { return registers_.notify_fd(queue); }
  /// Where in the BAR a write of any value notifies of `queue`.
  static constexpr std::uint32_t notify_address(std::uint16_t queue) noexcept {
    return notify_offset + notify_stride * queue;
  }
  const pci::Msix& msix() const noexcept { return msix_; }

  // The BAR.
  void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;

  // Configuration space.
  void read_config(std::uint64_t offset, std::span<std::byte> data) noexcept override;
  void write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept override;

  using Interrupt::signal_used;
  void signal_used(std::span<const std::uint16_t> queues) noexcept override;
  void signal_configuration() noexcept override;

 private:
  void build_header(std::uint32_t bar_address);
  void add_capabilities();
  std::uint8_t add_structure(over_pci::Structure structure, std::uint32_t offset, std::uint32_t size,
                             std::optional<std::uint32_t> extra = {});

  // Under mutex_.
  void read_bar(std::uint64_t offset, std::span<std::byte> data) noexcept;
  void write_bar(std::uint64_t offset, std::span<const std::byte> data) noexcept;
  std::uint32_t read_common(std::uint64_t offset, std::size_t size) noexcept;
  void write_common(std::uint64_t offset, std::size_t size, std::uint32_t value) noexcept;
  std::atomic<std::uint16_t>* vector_register(std::uint64_t offset, std::size_t size) noexcept;
  void forget_interrupts() noexcept;
  /// The access that the driver describes in the capability for access by configuration space (4.1.4.9).
  struct WindowAccess {
    std::uint64_t offset;
    std::size_t size;
  };
  std::optional<WindowAccess> window_access(std::uint64_t offset, std::size_t size) const noexcept;

  std::uint32_t device_type_;
  log::FaultLimit faults_;
  InterruptStatus isr_;
  pci::Msix msix_;
  std::vector<std::atomic<std::uint16_t>> vectors_;  // one per queue, then the one of configuration changes
  std::mutex mutex_;                                 // guards what follows
  pci::ConfigSpace config_;
  std::uint8_t msix_capability_ = 0;
  std::uint8_t window_capability_ = 0;
  DeviceRegisters registers_;
};

}  // namespace minivm::virtio

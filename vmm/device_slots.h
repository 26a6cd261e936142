#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/event_loop.h"
#include "base/guest_memory.h"
#include "boot/platform.h"
#include "devices/bus.h"
#include "devices/pci/host.h"
#include "devices/virtio/device.h"
#include "devices/virtio/interrupt.h"
#include "devices/virtio/mmio_transport.h"
#include "devices/virtio/pci_transport.h"
#include "vmm/kvm.h"
#include "vmm/msi_routes.h"

namespace minivm {

/// The places of a machine's virtio devices: a transport for each, its registers on the MMIO bus, its lines to KVM.
/// While the machine is built, in the order of the functions.
class DeviceSlots {
 public:
  virtual ~DeviceSlots() = default;

  /// The device and its loop outlive the slots. Throws std::runtime_error when there are too many.
  virtual void add(virtio::VirtioDevice& device, EventLoop& loop) = 0;
  /// Adds the devices to what the guest is told.
  virtual void describe(boot::Platform& platform) const = 0;
  /// Binds the eventfds. After the vCPUs.
  virtual void connect(Vm& vm) = 0;
};

/// Devices on virtio-mmio: a page and a GSI each.
class MmioSlots final : public DeviceSlots {
 public:
  MmioSlots(const GuestMemory& memory, Bus& mmio) : memory_(memory), mmio_(mmio) {}

  void add(virtio::VirtioDevice& device, EventLoop& loop) override;
  void describe(boot::Platform& platform) const override;
  void connect(Vm& vm) override;

 private:
  struct Slot {
    Slot(virtio::VirtioDevice& device, EventLoop& loop, const GuestMemory& memory)
        : transport(device, loop, memory, interrupt) {}

    boot::VirtioMmioSlot place;
    virtio::InterruptLine interrupt;
    virtio::MmioTransport transport;
  };

  const GuestMemory& memory_;
  Bus& mmio_;
  std::vector<std::unique_ptr<Slot>> slots_;
};

/// Devices on virtio-pci: functions of one bus, with a BAR each and a GSI for each MSI-X vector.
class PciSlots final : public DeviceSlots {
 public:
  PciSlots(const GuestMemory& memory, Bus& mmio, Vm& vm);

  void add(virtio::VirtioDevice& device, EventLoop& loop) override;
  void describe(boot::Platform& platform) const override;
  void connect(Vm& vm) override;

 private:
  struct Slot {
    std::uint32_t bar = 0;
    std::vector<std::uint32_t> gsis;  // one per vector
    std::unique_ptr<virtio::PciTransport> transport;
  };

  const GuestMemory& memory_;
  Bus& mmio_;
  MsiRoutes routes_;
  pci::Host host_;
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace minivm

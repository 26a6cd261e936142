#include "vmm/device_slots.h"

#include <fmt/format.h>

#include <stdexcept>

#include "boot/layout.h"
#include "devices/virtio/spec.h"

namespace minivm {
namespace {

void check_room(std::size_t used, std::uint32_t room) {
  if (used == room) throw std::runtime_error(fmt::format("devices: more than {} virtio devices", room));
}

}  // namespace

void MmioSlots::add(virtio::VirtioDevice& device, EventLoop& loop) {
  check_room(slots_.size(), layout::max_virtio_devices);
  const auto index = static_cast<std::uint32_t>(slots_.size());
  auto slot = std::make_unique<Slot>(device, loop, memory_);
  slot->place = {layout::virtio_mmio + index * layout::virtio_mmio_stride, layout::virtio_mmio_size,
                 layout::first_virtio_gsi + index};
  mmio_.map(slot->place.address, slot->place.size, slot->transport);
  slots_.push_back(std::move(slot));
}

void MmioSlots::describe(boot::Platform& platform) const {
  for (const auto& slot : slots_) platform.virtio.push_back(slot->place);
}

void MmioSlots::connect(Vm& vm) {
  for (const auto& slot : slots_) {
    vm.bind_irqfd(slot->interrupt.fd(), slot->place.gsi);
    for (std::uint16_t queue = 0; queue < slot->transport.queue_count(); ++queue) {
      vm.bind_ioeventfd(slot->transport.notify_fd(queue), slot->place.address + virtio::mmio::queue_notify, queue);
    }
  }
}

PciSlots::PciSlots(const GuestMemory& memory, Bus& mmio, Vm& vm) : memory_(memory), mmio_(mmio), routes_(vm) {
  mmio_.map(layout::pci_config, layout::pci_config_size, host_);
}

void PciSlots::add(virtio::VirtioDevice& device, EventLoop& loop) {
  check_room(slots_.size(), pci::devices_per_bus);
  const auto index = static_cast<std::uint32_t>(slots_.size());
  auto slot = std::make_unique<Slot>();
  slot->bar = static_cast<std::uint32_t>(layout::pci_window + index * layout::pci_bar_stride);
  slot->transport = std::make_unique<virtio::PciTransport>(
      device, loop, memory_, slot->bar,
      [this, place = slot.get()](std::uint16_t vector, const pci::MsiMessage& message) {
        routes_.connect(place->gsis[vector], message);
      });
  while (slot->gsis.size() < slot->transport->msix().size()) slot->gsis.push_back(routes_.add_vector());
  mmio_.map(slot->bar, virtio::PciTransport::bar_size, *slot->transport);
  host_.add(index, *slot->transport);
  slots_.push_back(std::move(slot));
}

void PciSlots::describe(boot::Platform& platform) const {
  platform.pci = {layout::pci_config, layout::pci_config_size, layout::pci_window, layout::pci_window_size};
}

void PciSlots::connect(Vm& vm) {
  for (const auto& slot : slots_) {
    const virtio::PciTransport& transport = *slot->transport;
    for (std::uint16_t vector = 0; vector < transport.msix().size(); ++vector) {
      vm.bind_irqfd(transport.msix().fd(vector), slot->gsis[vector]);
    }
    for (std::uint16_t queue = 0; queue < transport.queue_count(); ++queue) {
      vm.bind_ioeventfd(transport.notify_fd(queue), slot->bar + virtio::PciTransport::notify_address(queue));
    }
  }
}

}  // namespace minivm

#include "vmm/msi_routes.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "boot/layout.h"

namespace minivm {

MsiRoutes::MsiRoutes(Vm& vm) : vm_(vm), next_gsi_(layout::gsi_count) {
  for (std::uint32_t pin = 0; pin < layout::gsi_count; ++pin) {
    kvm_irq_routing_entry& entry = entries_.emplace_back();
    entry.gsi = pin;
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = pin};
  }
}

std::uint32_t MsiRoutes::add_vector() {
  // Room for its message, so that `connect` never has to ask for memory.
  entries_.reserve(entries_.size() + next_gsi_ + 1 - layout::gsi_count);
  return next_gsi_++;
}

void MsiRoutes::connect(std::uint32_t gsi, const pci::MsiMessage& message) noexcept {
  const std::lock_guard lock(mutex_);
  auto entry = std::ranges::find(entries_, gsi, &kvm_irq_routing_entry::gsi);
  if (entry == entries_.end()) {
    entries_.emplace_back();
    entry = entries_.end() - 1;
    entry->gsi = gsi;
    entry->type = KVM_IRQ_ROUTING_MSI;
  }
  entry->u.msi.address_lo = static_cast<std::uint32_t>(message.address);
  entry->u.msi.address_hi = static_cast<std::uint32_t>(message.address >> 32);
  entry->u.msi.data = message.data;
  if (vm_.set_routes(entries_)) return;
  faults_.warning("msi: KVM does not take address {:#x}, data {:#x}: {}", message.address, message.data,
                  std::strerror(errno));
}

}  // namespace minivm

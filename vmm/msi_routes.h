#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <mutex>
#include <vector>

#include "base/log.h"
#include "devices/pci/msix.h"
#include "vmm/kvm.h"

namespace minivm {

/// KVM's table of what each GSI is connected to (api.rst, KVM_SET_GSI_ROUTING): the pins of the IOAPIC, and the
/// messages of MSI-X vectors, whose GSIs come after the pins. Until the first message KVM keeps its own table.
class MsiRoutes {
 public:
  explicit MsiRoutes(Vm& vm);

  /// A GSI for one more vector. While the machine is built.
  std::uint32_t add_vector();
  /// Connects the GSI of a vector; KVM copies the whole table for it, some 10 us. Any vCPU thread.
  void connect(std::uint32_t gsi, const pci::MsiMessage& message) noexcept;

 private:
  Vm& vm_;
  std::uint32_t next_gsi_;
  log::FaultLimit faults_;
  std::mutex mutex_;  // guards what follows
  std::vector<kvm_irq_routing_entry> entries_;
};

}  // namespace minivm

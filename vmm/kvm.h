#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/guest_memory.h"

namespace minivm {

/// /dev/kvm. The constructor throws std::system_error or std::runtime_error that say what the host lacks.
class Kvm {
 public:
  static constexpr int api_version = 12;  // api.rst, 4.1: any other is too old to use

  explicit Kvm(const std::string& path = "/dev/kvm");

  int fd() const noexcept { return fd_.get(); }
  /// KVM_CHECK_EXTENSION: 0 when the host does not have it.
  int check_extension(unsigned long capability) const noexcept;
  /// KVM_GET_SUPPORTED_CPUID: what the host can give to a guest.
  std::vector<kvm_cpuid_entry2> supported_cpuid() const;
  /// Bytes of each vCPU's shared kvm_run mapping.
  std::size_t run_mapping_size() const;

 private:
  UniqueFd fd_;
};

/// One virtual machine. Call in this order, since KVM waits a grace period for a memory slot that comes after an
/// I/O bus user: memory, interrupt controller, vCPUs, eventfds.
class Vm {
 public:
  explicit Vm(const Kvm& kvm);

  /// One slot for each region. `memory` outlives the VM.
  void set_memory(const GuestMemory& memory);
  /// IOAPIC, local APICs and PIC in the kernel; no PIT.
  void create_irqchip();
  UniqueFd create_vcpu(std::uint32_t id);
  /// Each signal of `event_fd` is one edge on `gsi`.
  void bind_irqfd(int event_fd, std::uint32_t gsi);
  /// A 4-byte guest write of `value` to `address` signals `event_fd` without leaving the kernel.
  void bind_ioeventfd(int event_fd, std::uint64_t address, std::uint32_t value);
  /// The same for a write of any size and value: some hosts then need not even decode the guest's instruction.
  void bind_ioeventfd(int event_fd, std::uint64_t address);
  /// Replaces what each GSI is connected to. False, with errno set, when KVM refuses. Any thread.
  bool set_routes(std::span<const kvm_irq_routing_entry> entries) noexcept;

 private:
  UniqueFd fd_;
};

}  // namespace minivm

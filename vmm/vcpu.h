#pragma once

#include <linux/kvm.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <thread>

#include "base/fd.h"
#include "base/guest_memory.h"
#include "boot/cpu_state.h"
#include "devices/bus.h"
#include "vmm/kvm_statistics.h"

namespace minivm {

/// What a vCPU sees outside of RAM. Fixed before the vCPUs start.
struct VcpuBuses {
  const Bus* port_io = nullptr;
  const Bus* mmio = nullptr;
};

/// Why a vCPU left its loop by itself.
struct VcpuStop {
  enum class Reason : std::uint8_t {
    triple_fault,    // KVM_EXIT_SHUTDOWN: the guest's way to reset, or a broken guest
    internal_error,  // `detail` has all that KVM tells
  };

  Reason reason{};
  std::string detail;
};

/// One virtual CPU and the thread that runs it: one loop around KVM_RUN, one switch. Built and started by the building
/// thread; the registers belong to the vCPU's own thread from `start` on.
class Vcpu {
 public:
  /// Called once, on the vCPU's thread, when the loop ends by itself.
  using OnStop = std::function<void(VcpuStop)>;

  Vcpu(UniqueFd fd, std::uint32_t id, std::size_t run_mapping_size, const GuestMemory& memory, VcpuBuses buses);
  ~Vcpu();
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  void set_cpuid(std::span<const kvm_cpuid_entry2> entries);
  void set_boot_msrs();
  /// KVM's counters of these names. Any thread.
  std::vector<std::pair<std::string, std::uint64_t>> statistics(std::span<const std::string_view> names) const {
    return read_kvm_statistics(statistics_.get(), names);
  }
  /// KHz of the guest's TSC; 0 when KVM does not say.
  std::uint32_t tsc_khz() const noexcept;
  /// Registers of the first vCPU; the others wait in the kernel for the guest to start them.
  void set_state(const boot::CpuState& state);

  void start(OnStop on_stop);
  /// CLOCK_MONOTONIC right before the first KVM_RUN, in nanoseconds; 0 before. Any thread.
  std::int64_t first_run_ns() const noexcept { return first_run_ns_.load(std::memory_order_relaxed); }
  /// Makes the thread leave KVM_RUN and end; returns at once. Any thread.
  void request_stop() noexcept;
  void join();

 private:
  void run();
  /// True to go on.
  bool handle_exit();
  void handle_port_io() noexcept;
  void handle_mmio() noexcept;
  std::string describe_internal_error() const;

  UniqueFd fd_;
  UniqueFd statistics_;  // from the start: KVM answers ioctls of a vCPU only while it is not in KVM_RUN
  std::uint32_t id_;
  std::size_t run_size_;
  kvm_run* run_;
  const GuestMemory& memory_;
  VcpuBuses buses_;
  OnStop on_stop_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::int64_t> first_run_ns_{0};
  std::thread thread_;
};

}  // namespace minivm

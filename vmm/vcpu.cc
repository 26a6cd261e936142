#include "vmm/vcpu.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iterator>
#include <vector>

#include "base/clock.h"
#include "vmm/cpu_state.h"
#include "vmm/kvm_lists.h"

namespace minivm {
namespace {

/// Only interrupts KVM_RUN: what it means is in kvm_run::immediate_exit.
int kick_signal() { return SIGRTMIN; }

void install_kick_handler() {
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    return ::sigaction(kick_signal(), &action, nullptr) == 0;
  }();
  if (!installed) throw_errno("sigaction");
}

kvm_run* map_run(int fd, std::size_t size) {
  void* run = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (run == MAP_FAILED) throw_errno("mmap of kvm_run");
  return static_cast<kvm_run*>(run);
}

}  // namespace

Vcpu::Vcpu(UniqueFd fd, std::uint32_t id, std::size_t run_mapping_size, const GuestMemory& memory, VcpuBuses buses)
    : fd_(std::move(fd)),
      statistics_(open_kvm_statistics(fd_.get())),
      id_(id),
      run_size_(run_mapping_size),
      run_(map_run(fd_.get(), run_mapping_size)),
      memory_(memory),
      buses_(buses) {}

Vcpu::~Vcpu() {
  request_stop();
  join();
  ::munmap(run_, run_size_);
}

void Vcpu::set_cpuid(std::span<const kvm_cpuid_entry2> entries) {
  const auto block = kvm_lists::make(entries);
  if (::ioctl(fd_.get(), kvm_lists::set_cpuid2, block.data()) < 0)
    throw_errno(fmt::format("vcpu {}: KVM_SET_CPUID2", id_));
}

void Vcpu::set_boot_msrs() {
  // SDM 4: fast strings on; MTRRs enabled with write-back as the default type.
  static constexpr std::array<kvm_msr_entry, 2> entries{{{.index = 0x1A0, .data = 1}, {.index = 0x2FF, .data = 0x806}}};
  const auto block = kvm_lists::make(std::span<const kvm_msr_entry>(entries));
  if (::ioctl(fd_.get(), kvm_lists::set_msrs, block.data()) < 0) throw_errno(fmt::format("vcpu {}: KVM_SET_MSRS", id_));
}

std::uint32_t Vcpu::tsc_khz() const noexcept {
  const int khz = ::ioctl(fd_.get(), KVM_GET_TSC_KHZ, 0UL);
  return khz > 0 ? static_cast<std::uint32_t>(khz) : 0;
}

void Vcpu::set_state(const boot::CpuState& state) {
  kvm_sregs sregs{};
  if (::ioctl(fd_.get(), KVM_GET_SREGS, &sregs) < 0) throw_errno(fmt::format("vcpu {}: KVM_GET_SREGS", id_));
  set_special_registers(sregs, state);
  if (::ioctl(fd_.get(), KVM_SET_SREGS, &sregs) < 0) throw_errno(fmt::format("vcpu {}: KVM_SET_SREGS", id_));
  const kvm_regs regs = general_registers(state);
  if (::ioctl(fd_.get(), KVM_SET_REGS, &regs) < 0) throw_errno(fmt::format("vcpu {}: KVM_SET_REGS", id_));
}

void Vcpu::start(OnStop on_stop) {
  install_kick_handler();
  on_stop_ = std::move(on_stop);
  thread_ = std::thread([this] { run(); });
  ::pthread_setname_np(thread_.native_handle(), fmt::format("vcpu-{}", id_).c_str());
}

void Vcpu::request_stop() noexcept {
  stopping_.store(true, std::memory_order_relaxed);
  // KVM looks at the flag on the way in, the signal ends the wait of a vCPU that is already in: no gap between them.
  std::atomic_ref(run_->immediate_exit).store(1, std::memory_order_release);
  if (thread_.joinable()) ::pthread_kill(thread_.native_handle(), kick_signal());
}

void Vcpu::join() {
  if (thread_.joinable()) thread_.join();
}

void Vcpu::run() {
  first_run_ns_.store(monotonic_ns(), std::memory_order_relaxed);
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (::ioctl(fd_.get(), KVM_RUN, 0UL) < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      on_stop_({VcpuStop::Reason::internal_error, fmt::format("vcpu {}: KVM_RUN: {}", id_, std::strerror(errno))});
      return;
    }
    if (!handle_exit()) return;
  }
}

bool Vcpu::handle_exit() {
  switch (run_->exit_reason) {
    case KVM_EXIT_IO:
      handle_port_io();
      return true;
    case KVM_EXIT_MMIO:
      handle_mmio();
      return true;
    case KVM_EXIT_INTR:
    case KVM_EXIT_HLT:  // only without an in-kernel local APIC, where nothing could wake the vCPU up again
      return true;
    case KVM_EXIT_SHUTDOWN:
      on_stop_({VcpuStop::Reason::triple_fault, fmt::format("vcpu {}: triple fault", id_)});
      return false;
    default:
      on_stop_({VcpuStop::Reason::internal_error, describe_internal_error()});
      return false;
  }
}

void Vcpu::handle_port_io() noexcept {
  auto* data = reinterpret_cast<std::byte*>(run_) + run_->io.data_offset;
  for (std::uint32_t i = 0; i < run_->io.count; ++i, data += run_->io.size) {
    const std::span unit(data, run_->io.size);
    if (run_->io.direction == KVM_EXIT_IO_OUT) {
      buses_.port_io->write(run_->io.port, unit);
    } else {
      buses_.port_io->read(run_->io.port, unit);
    }
  }
}

void Vcpu::handle_mmio() noexcept {
  const std::span data(reinterpret_cast<std::byte*>(run_->mmio.data), std::min<std::size_t>(run_->mmio.len, 8));
  if (run_->mmio.is_write != 0) {
    buses_.mmio->write(run_->mmio.phys_addr, data);
  } else {
    buses_.mmio->read(run_->mmio.phys_addr, data);
  }
}

std::string Vcpu::describe_internal_error() const {
  std::string text = fmt::format("vcpu {}: exit reason {}", id_, run_->exit_reason);
  switch (run_->exit_reason) {
    case KVM_EXIT_INTERNAL_ERROR: {
      const bool emulation = run_->internal.suberror == KVM_INTERNAL_ERROR_EMULATION;
      text = fmt::format("vcpu {}: KVM internal error {}{}", id_, run_->internal.suberror,
                         emulation ? " (emulation failure: KVM cannot run this instruction)" : "");
      break;
    }
    case KVM_EXIT_FAIL_ENTRY:
      text = fmt::format("vcpu {}: the processor refused to enter the guest, hardware reason {:#x}", id_,
                         run_->fail_entry.hardware_entry_failure_reason);
      break;
    default:
      break;
  }
  kvm_regs regs{};
  if (::ioctl(fd_.get(), KVM_GET_REGS, &regs) < 0) return text;
  text += fmt::format(", rip {:#x}", regs.rip);
  kvm_translation translation{};
  translation.linear_address = regs.rip;
  const bool translated = ::ioctl(fd_.get(), KVM_TRANSLATE, &translation) == 0 && translation.valid != 0;
  const auto bytes =
      memory_.read<std::array<std::uint8_t, 15>>(Gpa{translated ? translation.physical_address : regs.rip});
  return bytes ? fmt::format("{}, bytes {:02x}", text, fmt::join(*bytes, " ")) : text;
}

}  // namespace minivm

#include "vmm/speed_probe.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <array>
#include <chrono>
#include <cstring>
#include <stdexcept>

namespace minivm {
namespace {

constexpr std::uint64_t code_address = 0x1000;

// Real mode, so that no tables are needed. Each round asks the host how far to count, so that a fast guest does not
// spend its time in exits:
//   again: in eax, 0x10
//   count: dec eax
//          jnz count
//          jmp again
constexpr std::array<std::uint8_t, 9> code{0x66, 0xE5, 0x10, 0x66, 0x48, 0x75, 0xFC, 0xEB, 0xF7};
constexpr std::uint64_t instructions_per_count = 2;
constexpr std::uint32_t first_count = 1000;
constexpr std::uint32_t last_count = 1U << 30;
constexpr auto long_enough = std::chrono::milliseconds(20);

void enter_code(int vcpu) {
  kvm_sregs sregs{};
  if (::ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0) throw_errno("KVM_GET_SREGS");
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  if (::ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0) throw_errno("KVM_SET_SREGS");
  kvm_regs regs{};
  regs.rip = code_address;
  regs.rflags = 2;
  if (::ioctl(vcpu, KVM_SET_REGS, &regs) < 0) throw_errno("KVM_SET_REGS");
}

}  // namespace

GuestSpeed probe_guest_speed(const Kvm& kvm) {
  using Clock = std::chrono::steady_clock;
  GuestMemory memory(std::uint64_t{64} << 10);
  memory.write(Gpa{code_address}, code);
  Vm vm(kvm);
  vm.set_memory(memory);
  const UniqueFd vcpu = vm.create_vcpu(0);
  const std::size_t run_size = kvm.run_mapping_size();
  void* mapping = ::mmap(nullptr, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.get(), 0);
  if (mapping == MAP_FAILED) throw_errno("mmap of kvm_run");
  const auto* run = static_cast<const kvm_run*>(mapping);
  enter_code(vcpu.get());

  bool runs = ::ioctl(vcpu.get(), KVM_RUN, 0UL) == 0 && run->exit_reason == KVM_EXIT_IO;
  std::chrono::duration<double> elapsed{};
  std::uint32_t count = first_count;
  while (runs && elapsed < long_enough && count < last_count) {
    count *= 2;
    std::memcpy(static_cast<std::byte*>(mapping) + run->io.data_offset, &count, sizeof count);
    const Clock::time_point start = Clock::now();
    runs = ::ioctl(vcpu.get(), KVM_RUN, 0UL) == 0 && run->exit_reason == KVM_EXIT_IO;
    elapsed = Clock::now() - start;
  }
  const std::uint32_t exit_reason = run->exit_reason;
  ::munmap(mapping, run_size);
  if (!runs) throw std::runtime_error(fmt::format("probe guest: KVM exit reason {}", exit_reason));
  return {static_cast<std::uint64_t>(static_cast<double>(count * instructions_per_count) / elapsed.count())};
}

}  // namespace minivm

#include "vmm/speed_probe.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <array>
#include <chrono>
#include <stdexcept>

namespace minivm {
namespace {

constexpr std::uint64_t code_address = 0x1000;
constexpr std::uint32_t iterations = 2000;  // two instructions each

// Real mode, so that no tables are needed:
//   again: mov cx, iterations
//   count: dec cx
//          jnz count
//          out 0x10, al
//          jmp again
constexpr std::array<std::uint8_t, 10> code{0xB9, iterations & 0xFF, iterations >> 8, 0x49, 0x75, 0xFD,
                                            0xE6, 0x10,              0xEB,            0xF6};

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

  const Clock::time_point start = Clock::now();
  std::uint64_t rounds = 0;
  bool runs = true;
  while (runs && Clock::now() - start < std::chrono::milliseconds(50)) {
    runs = ::ioctl(vcpu.get(), KVM_RUN, 0UL) == 0 && run->exit_reason == KVM_EXIT_IO;
    ++rounds;
  }
  const std::chrono::duration<double> elapsed = Clock::now() - start;
  const std::uint32_t exit_reason = run->exit_reason;
  ::munmap(mapping, run_size);
  if (!runs) throw std::runtime_error(fmt::format("probe guest: KVM exit reason {}", exit_reason));
  return {static_cast<std::uint64_t>(static_cast<double>(rounds * iterations * 2) / elapsed.count())};
}

}  // namespace minivm

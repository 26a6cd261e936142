#include "vmm/cpu_state.h"

namespace minivm {
namespace {

// SDM 3A, 2.5 and 2.2.1.
constexpr std::uint64_t cr0_protection = 1U << 0;
constexpr std::uint64_t cr0_extension_type = 1U << 4;
constexpr std::uint64_t cr0_paging = 1U << 31;
constexpr std::uint64_t cr4_pae = 1U << 5;
constexpr std::uint64_t efer_long_mode_enable = 1U << 8;
constexpr std::uint64_t efer_long_mode_active = 1U << 10;

// boot.rst, 1.15: the selectors of a Linux boot; PVH leaves the choice to us.
constexpr std::uint16_t code_selector = 0x10;
constexpr std::uint16_t data_selector = 0x18;
constexpr std::uint16_t tss_selector = 0x20;

// SDM 3A, 3.4.5.1 and 3.5.
constexpr std::uint8_t type_code = 0xB;  // execute, read, accessed
constexpr std::uint8_t type_data = 0x3;  // read, write, accessed
constexpr std::uint8_t type_busy_tss = 0xB;

kvm_segment flat_segment(std::uint16_t selector, std::uint8_t type) {
  kvm_segment segment{};
  segment.limit = 0xFFFF'FFFF;
  segment.selector = selector;
  segment.type = type;
  segment.present = 1;
  segment.s = 1;
  segment.g = 1;
  segment.db = 1;
  return segment;
}

}  // namespace

void set_special_registers(kvm_sregs& sregs, const boot::CpuState& state) noexcept {
  const bool long_mode = state.mode == boot::CpuState::Mode::long_mode;
  sregs.cs = flat_segment(code_selector, type_code);
  if (long_mode) {
    sregs.cs.l = 1;
    sregs.cs.db = 0;
  }
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat_segment(data_selector, type_data);
  sregs.tr = kvm_segment{};
  sregs.tr.selector = tss_selector;
  sregs.tr.type = type_busy_tss;
  sregs.tr.present = 1;
  sregs.tr.limit = 0x67;
  sregs.gdt.base = raw(state.gdt);
  sregs.gdt.limit = state.gdt_limit;
  sregs.idt.base = 0;
  sregs.idt.limit = 0;
  sregs.cr0 = cr0_protection | cr0_extension_type;
  sregs.cr3 = 0;
  sregs.cr4 = 0;
  sregs.efer = 0;
  if (long_mode) {
    sregs.cr0 |= cr0_paging;
    sregs.cr3 = state.cr3;
    sregs.cr4 = cr4_pae;
    sregs.efer = efer_long_mode_enable | efer_long_mode_active;
  }
}

kvm_regs general_registers(const boot::CpuState& state) noexcept {
  kvm_regs regs{};
  regs.rip = state.rip;
  regs.rsp = state.rsp;
  regs.rsi = state.rsi;
  regs.rbx = state.rbx;
  regs.rflags = 2;  // SDM 3A, 3.4.3: bit 1 is always set
  return regs;
}

}  // namespace minivm

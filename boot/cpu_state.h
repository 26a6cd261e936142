#pragma once

#include <cstdint>

#include "base/guest_memory.h"

namespace minivm::boot {

/// The first vCPU's registers at the kernel's first instruction; everything not named is zero. Segments are flat.
struct CpuState {
  enum class Mode : std::uint8_t {
    long_mode,       // boot.rst, 1.15: paging on, CS 0x10, DS/ES/SS 0x18
    protected_mode,  // PVH: 32-bit, paging off
  };

  Mode mode = Mode::long_mode;
  std::uint64_t rip = 0;
  std::uint64_t rsp = 0;
  std::uint64_t rsi = 0;  // boot_params for long_mode
  std::uint64_t rbx = 0;  // hvm_start_info for protected_mode
  std::uint64_t cr3 = 0;
  Gpa gdt{};
  std::uint16_t gdt_limit = 0;
};

}  // namespace minivm::boot

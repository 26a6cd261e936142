#pragma once

#include "base/guest_memory.h"
#include "boot/cpu_state.h"

namespace minivm::boot {

/// Writes the GDT and the page tables that the 64-bit boot protocol starts with (boot.rst): the first 4 GiB are mapped
/// to themselves. Fills in `cr3`, `gdt` and `gdt_limit` of `state`. Guest memory must reach to layout::command_line.
void enter_long_mode(const GuestMemory& memory, CpuState& state);

}  // namespace minivm::boot

#pragma once

#include "base/guest_memory.h"
#include "boot/linux_params.h"

namespace minivm::boot {

/// Writes the hvm_start_info of the PVH boot protocol (Xen, public/arch-x86/hvm/start_info.h) at
/// layout::pvh_start_info, with its memory map and, unless the initramfs is empty, a module list of one. The command
/// line is at layout::command_line; `rsdp` 0 means no ACPI.
void write_pvh_start_info(const GuestMemory& memory, Placed initramfs, Gpa rsdp);

}  // namespace minivm::boot

#pragma once

#include <asm/bootparam.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/guest_memory.h"

namespace minivm::boot {

/// A range of guest memory that something was put into.
struct Placed {
  Gpa address{};
  std::uint64_t size = 0;
};

/// The setup header for a kernel that brings none because it is an ELF file.
setup_header minimal_setup_header() noexcept;

/// What boot_params is made of.
struct LinuxParams {
  const setup_header& header;  // the kernel's own
  Placed initramfs;            // size 0: none
  Gpa rsdp{};                  // 0: no ACPI
  std::span<const std::byte> device_tree;
};

/// Writes boot_params (boot.rst, "The Linux/x86 Boot Protocol"; zero-page.rst) at layout::boot_params and its
/// setup_data list, which holds a random seed and the device tree. The command line is at layout::command_line. Throws
/// std::runtime_error when the device tree is too large, std::system_error when the host has no random bytes.
void write_linux_params(const GuestMemory& memory, const LinuxParams& params);

}  // namespace minivm::boot

#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <vector>

#include "boot/kernel_image.h"

namespace minivm::boot {

/// What an ELF64 kernel wants loaded, at physical addresses, and where it starts.
struct ElfImage {
  std::vector<Segment> segments;  // from 1 MiB up, whole in the file, none empty
  Entry entry;
  std::uint64_t end = 0;  // of the highest segment, in guest memory
};

bool is_elf(std::span<const std::byte> head) noexcept;

/// Reads the headers of the first `size` bytes of `fd`. Linux is entered at its 64-bit entry point, which its ELF
/// header gives as a physical address; a kernel whose ELF entry point is a virtual address, or the very one of its
/// XEN_ELFNOTE_PHYS32_ENTRY note, is entered by PVH. The error is the reason for a refusal.
std::expected<ElfImage, std::string> read_elf(int fd, std::uint64_t size);

/// Makes an unpacked vmlinux smaller and quicker to map, in place: what follows the last loaded byte is cut off, and
/// zeros at the end of a segment's file part become memory that is zero anyway, since a written page of .bss is
/// cheaper to have fresh than copied from a file; pages of filler in code become zeros, which no file has to hold.
/// Returns the part of `image` to keep; all of it when it is no ELF64.
std::span<std::byte> cut_to_loaded(std::span<std::byte> image) noexcept;

}  // namespace minivm::boot

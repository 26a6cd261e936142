#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

namespace minivm::boot {

/// Why an ELF file with this header is for another kind of machine: "wrong architecture: arm64 (ELF)". Nothing when it
/// is a little-endian x86-64 one. `head` begins with at least an Elf64_Ehdr.
std::optional<std::string> foreign_elf(std::span<const std::byte> head);

/// Says what a file that is neither ELF nor bzImage is instead, by its first bytes, as the reason for a refusal.
std::string name_foreign_file(std::span<const std::byte> head);

}  // namespace minivm::boot

#include "boot/kernel_format.h"

#include <elf.h>
#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace minivm::boot {
namespace {

struct Machine {
  std::uint16_t number;
  std::string_view name;
};
constexpr std::array<Machine, 10> machines{{{EM_386, "32-bit x86"},
                                            {EM_ARM, "32-bit arm"},
                                            {EM_AARCH64, "arm64"},
                                            {EM_RISCV, "riscv"},
                                            {EM_PPC64, "ppc64"},
                                            {EM_S390, "s390"},
                                            {EM_MIPS, "mips"},
                                            {EM_LOONGARCH, "loongarch"},
                                            {EM_SPARCV9, "sparc64"},
                                            {EM_X86_64, "x86-64"}}};

std::string machine_name(std::uint16_t number) {
  for (const Machine& machine : machines) {
    if (machine.number == number) return std::string(machine.name);
  }
  return fmt::format("machine {}", number);
}

struct Signature {
  std::size_t offset;
  std::string_view bytes;
  std::string_view meaning;
};

using namespace std::string_view_literals;

// Kernels before containers, containers before the PE header that many kernels begin with.
constexpr std::array<Signature, 14> signatures{{
    {56, "ARM\x64"sv, "wrong architecture: arm64 (Image)"},  // Documentation/arch/arm64/booting.rst, 4
    {56, "RSC\x05"sv, "wrong architecture: riscv (Image)"},  // Documentation/arch/riscv/boot-image-header.rst
    {36, "\x18\x28\x6F\x01"sv, "wrong architecture: 32-bit arm (zImage)"},  // arch/arm/boot/compressed/head.S
    {4, "zimg"sv, "an EFI zboot image: extract the kernel from it first"},
    {0, "\x27\x05\x19\x56"sv, "a U-Boot image: extract the kernel from it first"},
    {0, "\xD0\x0D\xFE\xED"sv, "a flattened device tree or FIT image, not a kernel"},
    {0, "\x1F\x8B"sv, "a gzip file: unpack it first"},
    {0, "\x28\xB5\x2F\xFD"sv, "a zstd file: unpack it first"},
    {0,
     "\xFD"
     "7zXZ"sv,
     "an xz file: unpack it first"},
    {0, "BZh"sv, "a bzip2 file: unpack it first"},
    {0, "\x04\x22\x4D\x18"sv, "an lz4 file: unpack it first"},
    {0, "070701"sv, "a cpio archive, not a kernel"},
    {0, "#!"sv, "a script, not a kernel"},
    {0, "MZ"sv, "a PE program without a Linux setup header"},
}};

}  // namespace

std::optional<std::string> foreign_elf(std::span<const std::byte> head) {
  Elf64_Ehdr header;
  std::memcpy(&header, head.data(), sizeof header);
  // e_machine has the same place in both classes, and its byte order is the file's.
  const bool big_endian = header.e_ident[EI_DATA] == ELFDATA2MSB;
  const std::uint16_t machine = big_endian ? __builtin_bswap16(header.e_machine) : header.e_machine;
  if (machine != EM_X86_64 || big_endian) {
    return fmt::format("wrong architecture: {} (ELF{})", machine_name(machine), big_endian ? ", big-endian" : "");
  }
  if (header.e_ident[EI_CLASS] != ELFCLASS64) return "wrong architecture: x32 (ELF)";
  return std::nullopt;
}

std::string name_foreign_file(std::span<const std::byte> head) {
  for (const auto& [offset, bytes, meaning] : signatures) {
    if (head.size() >= offset + bytes.size() && std::memcmp(head.data() + offset, bytes.data(), bytes.size()) == 0) {
      return std::string(meaning);
    }
  }
  return "neither a bzImage nor an ELF vmlinux";
}

}  // namespace minivm::boot

#pragma once

#include <asm/bootparam.h>
#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "tests/scratch_directory.h"

namespace minivm::test {

template <typename T>
void put(std::string& bytes, std::size_t offset, const T& value) {
  if (bytes.size() < offset + sizeof value) bytes.resize(offset + sizeof value);
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

template <typename T>
T get(std::string_view bytes, std::size_t offset = 0) {
  T value{};
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

/// Bytes without long repetitions and without a zero, the same for the same `seed`.
inline std::string noise(std::size_t size, std::uint32_t seed) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) {
    seed = seed * 1664525 + 1013904223;
    byte = static_cast<char>((seed >> 24) | 1);
  }
  return bytes;
}

/// An ELF64 kernel that is put together piece by piece. Between the pieces and after them the file holds 0xEE.
struct SyntheticElf {
  struct Piece {
    std::uint64_t address = 0;
    std::string content;
    std::uint64_t memory_size = 0;
    std::uint64_t misalignment = 0;  // of its place in the file against its address
    std::uint32_t flags = PF_R | PF_X;
  };

  std::vector<Piece> pieces;
  std::uint64_t entry = 0;
  std::uint16_t machine = EM_X86_64;
  std::uint16_t type = ET_EXEC;
  std::uint64_t pvh_entry = 0;  // 0: no note

  std::string build() const {
    std::string file(sizeof(Elf64_Ehdr) + (pieces.size() + 1) * sizeof(Elf64_Phdr), '\xEE');
    std::size_t slot = sizeof(Elf64_Ehdr);
    for (const Piece& piece : pieces) {
      const std::uint64_t page = (file.size() + 4095) & ~std::uint64_t{4095};
      const std::uint64_t offset = page + (piece.address + piece.misalignment) % 4096;
      file.resize(offset, '\xEE');
      file += piece.content;
      add_header(file, slot, PT_LOAD, piece, offset);
    }
    add_header(file, slot, pvh_entry == 0 ? PT_NULL : PT_NOTE, {0, note(), note().size(), 0}, file.size());
    file += note();
    file.resize(file.size() + 4096, '\xEE');
    put(file, 0, header());
    return file;
  }

 private:
  Elf64_Ehdr header() const {
    Elf64_Ehdr elf{};
    std::memcpy(elf.e_ident, ELFMAG, SELFMAG);
    elf.e_ident[EI_CLASS] = ELFCLASS64;
    elf.e_ident[EI_DATA] = ELFDATA2LSB;
    elf.e_type = type;
    elf.e_machine = machine;
    elf.e_entry = entry;
    elf.e_phoff = sizeof elf;
    elf.e_phentsize = sizeof(Elf64_Phdr);
    elf.e_phnum = static_cast<Elf64_Half>(pieces.size() + 1);
    return elf;
  }
  std::string note() const {
    std::string text;
    put(text, 0, Elf64_Nhdr{6, 4, 1});  // another owner's note first
    text += std::string_view(
        "Linux\0\0\0"
        "abcd",
        12);
    put(text, text.size(), Elf64_Nhdr{4, 8, 18});
    text += std::string_view("Xen\0", 4);
    put(text, text.size(), pvh_entry);
    return text;
  }
  static void add_header(std::string& file, std::size_t& slot, std::uint32_t kind, const Piece& piece,
                         std::uint64_t offset) {
    Elf64_Phdr program_header{};
    program_header.p_type = kind;
    program_header.p_flags = piece.flags;
    program_header.p_offset = offset;
    program_header.p_paddr = piece.address;
    program_header.p_vaddr = 0xFFFF'FFFF'8000'0000 + piece.address;
    program_header.p_filesz = piece.content.size();
    program_header.p_memsz = piece.memory_size;
    put(file, slot, program_header);
    slot += sizeof program_header;
  }
};

/// A kernel of two segments. The first one says which release it is.
inline SyntheticElf sample_elf(std::uint32_t seed = 1) {
  std::string text = noise(3 * 4096 + 100, seed);
  text.replace(5000, 31, "Linux version %s\0Linux version ", 31);
  text.replace(5031, 15, "6.9.1-sample (x");
  SyntheticElf elf;
  elf.entry = 0x100'0000;
  elf.pieces = {{0x100'0000, text, text.size(), 0}, {0x110'0010, noise(9000, seed + 1), 30000, 0}};
  return elf;
}

/// A bzImage around a payload that is packed already.
struct SyntheticBzImage {
  std::string payload;
  std::uint8_t setup_sectors = 7;  // so that the code begins at a page boundary of the file
  setup_header header = default_header();

  std::string build() const {
    const std::size_t code = (std::size_t{setup_sectors} + 1) * 512;
    std::string file(code, '\0');
    setup_header written = header;
    written.setup_sects = setup_sectors;
    written.payload_offset = payload_offset;
    if (written.payload_length == 0) written.payload_length = static_cast<std::uint32_t>(payload.size());
    file += noise(payload_offset, 7) + payload;
    file.resize((file.size() + 15) & ~std::size_t{15});
    if (written.syssize == 0) written.syssize = static_cast<std::uint32_t>((file.size() - code) / 16);
    put(file, 0x1F1, written);
    file.replace(0x200 + release_offset, 21, "6.9.1-sample (builder", 21);
    return file;
  }

  static constexpr std::uint32_t payload_offset = 0x2C0;
  static constexpr std::uint16_t release_offset = 0x300;

  static setup_header default_header() {
    setup_header header{};
    header.boot_flag = 0xAA55;
    header.jump = 0x6AEB;
    header.header = 0x53726448;
    header.version = 0x020F;
    header.kernel_version = release_offset;
    header.loadflags = LOADED_HIGH;
    header.initrd_addr_max = 0x7FFF'FFFF;
    header.kernel_alignment = 0x20'0000;
    header.relocatable_kernel = 1;
    header.xloadflags = XLF_KERNEL_64;
    header.cmdline_size = 2047;
    header.pref_address = 0x100'0000;
    header.init_size = 0x40'0000;
    return header;
  }
};

/// Packs with the tool's own program, as the kernel's build does, and appends the size unless gzip already did.
inline std::string pack(std::string_view content, const std::string& command) {
  const ScratchDirectory scratch;
  scratch.write("plain", content);
  const auto result = scratch.run(command + " < plain > packed");
  if (result.status != 0) throw std::runtime_error(command + ": " + result.output);
  std::string packed = scratch.read("packed");
  if (!command.starts_with("gzip")) put(packed, packed.size(), static_cast<std::uint32_t>(content.size()));
  return packed;
}

struct Packer {
  std::string name;
  std::string command;
};
inline std::vector<Packer> all_packers() {
  return {{"gzip", "gzip -n -9"},
          {"bzip2", "bzip2 -9"},
          {"lzma", "xz --format=lzma -9"},
          {"xz", "xz --check=crc32 --x86 --lzma2=dict=32MiB"},
          {"lzo", "lzop -9"},
          {"lz4", "lz4 -l -9 -c"},
          {"zstd", "zstd -q -19"}};
}

inline std::string sample_bzimage(std::uint32_t seed = 1) {
  return SyntheticBzImage{.payload = pack(sample_elf(seed).build(), "lz4 -l -c")}.build();
}

}  // namespace minivm::test

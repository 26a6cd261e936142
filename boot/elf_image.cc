#include "boot/elf_image.h"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <string_view>

#include "boot/kernel_format.h"
#include "boot/layout.h"
#include "boot/read_at.h"

namespace minivm::boot {
namespace {

constexpr std::size_t program_header_limit = 128;
constexpr std::uint64_t notes_limit = 1U << 16;
// Xen, public/elfnote.h: the 32-bit physical address of the PVH entry point.
constexpr std::uint32_t xen_phys32_entry = 18;

using ProgramHeaders = std::vector<Elf64_Phdr>;
template <typename T>
using OrReason = std::expected<T, std::string>;

OrReason<Elf64_Ehdr> read_header(int fd, std::uint64_t size) {
  Elf64_Ehdr header;
  if (size < sizeof header || !read_at(fd, 0, header)) return std::unexpected("truncated: no whole ELF header");
  if (const auto refused = foreign_elf(std::as_bytes(std::span(&header, 1)))) return std::unexpected(*refused);
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
    return std::unexpected(fmt::format("not an ELF executable, but of type {}", header.e_type));
  }
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 || header.e_phnum > program_header_limit) {
    return std::unexpected(
        fmt::format("bad ELF header: {} program headers of {} bytes", header.e_phnum, header.e_phentsize));
  }
  return header;
}

OrReason<ProgramHeaders> read_program_headers(int fd, std::uint64_t size, const Elf64_Ehdr& header) {
  ProgramHeaders headers(header.e_phnum);
  const std::uint64_t bytes = headers.size() * sizeof(Elf64_Phdr);
  if (header.e_phoff > size || bytes > size - header.e_phoff ||
      !read_at(fd, header.e_phoff, std::as_writable_bytes(std::span(headers)))) {
    return std::unexpected("truncated: the ELF program headers lie outside the file");
  }
  return headers;
}

OrReason<Segment> make_segment(const Elf64_Phdr& header, std::uint64_t size) {
  const std::uint64_t address = header.p_paddr;
  if (header.p_offset > size || header.p_filesz > size - header.p_offset) {
    return std::unexpected(fmt::format("truncated: the segment at {:#x} ends at byte {}, the file at {}", address,
                                       header.p_offset + header.p_filesz, size));
  }
  if (header.p_filesz > header.p_memsz) {
    return std::unexpected(fmt::format("bad segment at {:#x}: {} bytes in the file, {} in memory", address,
                                       header.p_filesz, header.p_memsz));
  }
  if (address < raw(layout::high_memory)) {
    return std::unexpected(fmt::format("the segment at {:#x} lies below 1 MiB", address));
  }
  if (header.p_memsz > GuestMemory::hole_end || address > GuestMemory::hole_end) {
    return std::unexpected(fmt::format("the segment at {:#x} of {} bytes lies above 4 GiB", address, header.p_memsz));
  }
  return Segment{Gpa{address}, header.p_memsz, header.p_offset, header.p_filesz};
}

std::size_t note_padded(std::size_t size) noexcept { return (size + 3) & ~std::size_t{3}; }

// The address in a Xen note of the wanted type: nothing when there is none, or none that makes sense.
std::optional<std::uint64_t> find_pvh_entry(std::span<const std::byte> notes) noexcept {
  static constexpr char owner[] = "Xen";
  Elf64_Nhdr note;
  while (notes.size() >= sizeof note) {
    std::memcpy(&note, notes.data(), sizeof note);
    notes = notes.subspan(sizeof note);
    const std::size_t name_size = note_padded(note.n_namesz);
    if (name_size > notes.size() || note.n_descsz > notes.size() - name_size) return std::nullopt;
    const auto value = notes.subspan(name_size, note.n_descsz);
    if (note.n_type == xen_phys32_entry && note.n_namesz == sizeof owner &&
        std::memcmp(notes.data(), owner, sizeof owner) == 0 && (value.size() == 4 || value.size() == 8)) {
      std::uint64_t address = 0;  // 4 or 8 bytes, little-endian as this host
      std::memcpy(&address, value.data(), value.size());
      return address;
    }
    notes = notes.subspan(std::min(notes.size(), name_size + note_padded(note.n_descsz)));
  }
  return std::nullopt;
}

std::optional<std::uint64_t> read_pvh_entry(int fd, const ProgramHeaders& headers) {
  for (const Elf64_Phdr& header : headers) {
    if (header.p_type != PT_NOTE || header.p_filesz > notes_limit) continue;
    std::vector<std::byte> notes(header.p_filesz);
    if (!read_at(fd, header.p_offset, notes)) continue;
    if (const auto address = find_pvh_entry(notes)) return address;
  }
  return std::nullopt;
}

bool loaded(const std::vector<Segment>& segments, std::uint64_t address) noexcept {
  return std::ranges::any_of(segments, [&](const Segment& segment) {
    return address >= raw(segment.address) && address - raw(segment.address) < segment.file_size;
  });
}

OrReason<Entry> choose_entry(std::uint64_t elf_entry, std::optional<std::uint64_t> pvh_entry,
                             const std::vector<Segment>& segments) {
  if (loaded(segments, elf_entry) && elf_entry != pvh_entry) return Entry{Entry::Protocol::linux_64, Gpa{elf_entry}};
  if (pvh_entry && loaded(segments, *pvh_entry)) return Entry{Entry::Protocol::pvh, Gpa{*pvh_entry}};
  return std::unexpected(
      fmt::format("no 64-bit entry: the ELF entry point {:#x} lies in no segment, and there is no {}", elf_entry,
                  pvh_entry ? "usable PVH note" : "PVH note"));
}

}  // namespace

bool is_elf(std::span<const std::byte> head) noexcept {
  return head.size() >= SELFMAG && std::memcmp(head.data(), ELFMAG, SELFMAG) == 0;
}

std::expected<ElfImage, std::string> read_elf(int fd, std::uint64_t size) {
  const auto header = read_header(fd, size);
  if (!header) return std::unexpected(header.error());
  const auto program_headers = read_program_headers(fd, size, *header);
  if (!program_headers) return std::unexpected(program_headers.error());

  ElfImage image;
  for (const Elf64_Phdr& program_header : *program_headers) {
    if (program_header.p_type != PT_LOAD || program_header.p_memsz == 0) continue;
    const auto segment = make_segment(program_header, size);
    if (!segment) return std::unexpected(segment.error());
    image.segments.push_back(*segment);
    image.end = std::max(image.end, raw(segment->end()));
  }
  if (image.segments.empty()) return std::unexpected("nothing to load: no PT_LOAD program header");

  const auto entry = choose_entry(header->e_entry, read_pvh_entry(fd, *program_headers), image.segments);
  if (!entry) return std::unexpected(entry.error());
  image.entry = *entry;
  return image;
}

// Pages of the file that hold nothing but the int3 with which linkers fill up code become zeros: nobody runs either.
void clear_filler(std::span<std::byte> image, std::uint64_t begin, std::uint64_t end) noexcept {
  static constexpr std::byte int3{0xCC};
  constexpr std::uint64_t page_size = GuestMemory::page_size;
  for (std::uint64_t at = (begin + page_size - 1) / page_size * page_size; at + page_size <= end; at += page_size) {
    const auto page = image.subspan(at, page_size);
    if (std::ranges::all_of(page, [](std::byte byte) { return byte == int3; })) std::ranges::fill(page, std::byte{});
  }
}

std::span<std::byte> cut_to_loaded(std::span<std::byte> image) noexcept {
  Elf64_Ehdr header;
  if (image.size() < sizeof header) return image;
  std::memcpy(&header, image.data(), sizeof header);
  const std::uint64_t table_size = std::uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
  if (!is_elf(image) || header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phentsize != sizeof(Elf64_Phdr) ||
      header.e_phoff > image.size() || table_size > image.size() - header.e_phoff) {
    return image;
  }
  std::uint64_t end = std::max<std::uint64_t>(sizeof header, header.e_phoff + table_size);
  for (std::size_t i = 0; i < header.e_phnum; ++i) {
    std::byte* const where = image.data() + header.e_phoff + i * sizeof(Elf64_Phdr);
    Elf64_Phdr program_header;
    std::memcpy(&program_header, where, sizeof program_header);
    if (program_header.p_offset > image.size() || program_header.p_filesz > image.size() - program_header.p_offset) {
      return image;
    }
    const auto content = image.subspan(program_header.p_offset, program_header.p_filesz);
    while (program_header.p_type == PT_LOAD && program_header.p_filesz > 0 &&
           content[program_header.p_filesz - 1] == std::byte{}) {
      --program_header.p_filesz;
    }
    if (program_header.p_type == PT_LOAD && (program_header.p_flags & PF_X) != 0) {
      clear_filler(image, program_header.p_offset, program_header.p_offset + program_header.p_filesz);
    }
    std::memcpy(where, &program_header, sizeof program_header);
    end = std::max(end, program_header.p_offset + program_header.p_filesz);
  }
  // What is left is a complete ELF file without sections.
  header.e_shoff = 0;
  header.e_shnum = 0;
  header.e_shstrndx = SHN_UNDEF;
  std::memcpy(image.data(), &header, sizeof header);
  return image.first(end);
}

}  // namespace minivm::boot

#include "vmm/program_needs.h"

#include <elf.h>
#include <limits.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>

#include "boot/read_at.h"

namespace minivm {
namespace {

constexpr std::size_t max_program_headers = 256;
constexpr std::size_t max_dynamic_entries = 4096;
constexpr std::size_t max_libraries = 256;
constexpr std::size_t max_name = NAME_MAX + 1;

/// A program file, asked only within its bounds.
class Program {
 public:
  Program(int fd, std::uint64_t size) noexcept : fd_(fd), size_(size) {}

  template <typename T>
  std::vector<T> read_array(std::uint64_t offset, std::uint64_t count) const {
    const std::uint64_t bytes = count * sizeof(T);
    if (offset > size_ || bytes > size_ - offset) return {};
    std::vector<T> entries(count);
    if (!boot::read_at(fd_, offset, std::as_writable_bytes(std::span(entries)))) return {};
    return entries;
  }

  /// A C string of less than `limit` bytes; empty when there is none.
  std::string read_text(std::uint64_t offset, std::size_t limit) const {
    if (offset >= size_) return {};
    const auto bytes = read_array<char>(offset, std::min<std::uint64_t>(limit, size_ - offset));
    const auto end = std::ranges::find(bytes, '\0');
    return end == bytes.end() ? std::string() : std::string(bytes.begin(), end);
  }

 private:
  int fd_;
  std::uint64_t size_;
};

using ProgramHeaders = std::vector<Elf64_Phdr>;

ProgramHeaders read_program_headers(const Program& program) {
  const auto header = program.read_array<Elf64_Ehdr>(0, 1);
  if (header.empty() || header[0].e_phentsize != sizeof(Elf64_Phdr)) return {};
  return program.read_array<Elf64_Phdr>(header[0].e_phoff,
                                        std::min<std::size_t>(header[0].e_phnum, max_program_headers));
}

const Elf64_Phdr* find(const ProgramHeaders& headers, std::uint32_t type) {
  const auto found = std::ranges::find(headers, type, &Elf64_Phdr::p_type);
  return found == headers.end() ? nullptr : &*found;
}

/// Where in the file the byte lies that is loaded at `address`.
std::optional<std::uint64_t> file_offset(const ProgramHeaders& headers, std::uint64_t address) {
  for (const Elf64_Phdr& each : headers) {
    if (each.p_type != PT_LOAD || address < each.p_vaddr || address - each.p_vaddr >= each.p_filesz) continue;
    return each.p_offset + (address - each.p_vaddr);
  }
  return std::nullopt;
}

std::vector<std::string> read_libraries(const Program& program, const ProgramHeaders& headers) {
  const Elf64_Phdr* const dynamic = find(headers, PT_DYNAMIC);
  if (dynamic == nullptr) return {};
  std::vector<std::uint64_t> names;
  std::uint64_t table = 0;
  for (const Elf64_Dyn& entry : program.read_array<Elf64_Dyn>(
           dynamic->p_offset, std::min<std::uint64_t>(dynamic->p_filesz / sizeof(Elf64_Dyn), max_dynamic_entries))) {
    if (entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_RPATH || entry.d_tag == DT_RUNPATH) return {};
    if (entry.d_tag == DT_STRTAB) table = entry.d_un.d_ptr;
    if (entry.d_tag == DT_NEEDED && names.size() < max_libraries) names.push_back(entry.d_un.d_val);
  }
  const auto strings = file_offset(headers, table);
  std::vector<std::string> libraries;
  if (!strings) return libraries;
  for (const std::uint64_t name : names) {
    if (name > UINT32_MAX) continue;
    if (std::string text = program.read_text(*strings + name, max_name); !text.empty()) {
      libraries.push_back(std::move(text));
    }
  }
  return libraries;
}

}  // namespace

ProgramNeeds read_program_needs(int fd, std::uint64_t size) {
  const Program program(fd, size);
  const ProgramHeaders headers = read_program_headers(program);
  const Elf64_Phdr* const interpreter = find(headers, PT_INTERP);
  if (interpreter == nullptr) return {};
  return {
      .interpreter = program.read_text(interpreter->p_offset, std::min<std::uint64_t>(interpreter->p_filesz, PATH_MAX)),
      .libraries = read_libraries(program, headers)};
}

}  // namespace minivm

#include "boot/long_mode.h"

#include <array>
#include <cstdint>

#include "boot/layout.h"

namespace minivm::boot {
namespace {

// SDM 3A, 4.5: 512 entries of 8 bytes a table.
constexpr std::size_t entries = 512;
constexpr std::uint64_t present = 1U << 0;
constexpr std::uint64_t writable = 1U << 1;
constexpr std::uint64_t large_page = 1U << 7;
constexpr std::uint64_t large_page_size = 1U << 21;
constexpr std::uint64_t directories = 4;  // a directory maps 1 GiB
using Table = std::array<std::uint64_t, entries>;

// SDM 3A, 3.4.5. boot.rst wants __BOOT_CS at selector 0x10 and __BOOT_DS at 0x18: flat, 4 GiB, accessed.
constexpr std::array<std::uint64_t, 4> descriptors{
    0, 0,
    0x00AF'9B00'0000'FFFF,  // code: 64-bit, execute/read
    0x00CF'9300'0000'FFFF,  // data: read/write
};

constexpr Gpa table_address(std::uint64_t index) { return layout::page_tables + index * sizeof(Table); }

}  // namespace

void enter_long_mode(const GuestMemory& memory, CpuState& state) {
  // In this order: PML4, page directory pointers, page directories.
  memory.write(table_address(0), Table{raw(table_address(1)) | present | writable});
  Table pointers{};
  for (std::uint64_t i = 0; i < directories; ++i) {
    pointers[i] = raw(table_address(2 + i)) | present | writable;
    Table directory;
    for (std::uint64_t page = 0; page < entries; ++page) {
      directory[page] = (i * entries + page) * large_page_size | present | writable | large_page;
    }
    memory.write(table_address(2 + i), directory);
  }
  memory.write(table_address(1), pointers);
  memory.write(layout::gdt, descriptors);
  state.cr3 = raw(layout::page_tables);
  state.gdt = layout::gdt;
  state.gdt_limit = sizeof descriptors - 1;
}

}  // namespace minivm::boot

#include "boot/pvh.h"

#include <cstdint>

#include "boot/layout.h"
#include "boot/memory_map.h"

namespace minivm::boot {
namespace {

// Xen, public/arch-x86/hvm/start_info.h.
constexpr std::uint32_t start_info_magic = 0x336E'C578;
constexpr std::uint32_t start_info_version = 1;  // the first one with a memory map

struct StartInfo {
  std::uint32_t magic = start_info_magic;
  std::uint32_t version = start_info_version;
  std::uint32_t flags = 0;
  std::uint32_t module_count = 0;
  std::uint64_t module_list = 0;
  std::uint64_t command_line = 0;
  std::uint64_t rsdp = 0;
  std::uint64_t memory_map = 0;
  std::uint32_t memory_map_entries = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(StartInfo) == 56);

struct Module {
  std::uint64_t address = 0;
  std::uint64_t size = 0;
  std::uint64_t command_line = 0;
  std::uint64_t reserved = 0;
};

struct MapEntry {
  std::uint64_t start = 0;
  std::uint64_t size = 0;
  std::uint32_t type = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(MapEntry) == 24);

}  // namespace

void write_pvh_start_info(const GuestMemory& memory, Placed initramfs, Gpa rsdp) {
  const Gpa module_list = layout::pvh_start_info + sizeof(StartInfo);
  const Gpa map = module_list + sizeof(Module);

  StartInfo info{.command_line = raw(layout::command_line), .rsdp = raw(rsdp), .memory_map = raw(map)};
  if (initramfs.size > 0) {
    info.module_count = 1;
    info.module_list = raw(module_list);
    memory.write(module_list, Module{.address = raw(initramfs.address), .size = initramfs.size});
  }
  for (const MemoryRange& range : memory_map(memory)) {
    memory.write(map + info.memory_map_entries++ * sizeof(MapEntry),
                 MapEntry{range.start, range.size, static_cast<std::uint32_t>(range.type), 0});
  }
  memory.write(layout::pvh_start_info, info);
}

}  // namespace minivm::boot

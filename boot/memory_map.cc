#include "boot/memory_map.h"

#include "boot/layout.h"

namespace minivm::boot {

std::vector<MemoryRange> memory_map(const GuestMemory& memory) {
  using enum MemoryRange::Type;
  const auto regions = memory.regions();
  const std::uint64_t high = raw(layout::high_memory);
  std::vector<MemoryRange> map{
      {0, layout::low_memory_end, ram},
      {raw(layout::firmware), layout::firmware_size, reserved},
      {high, regions[0].size - high, ram},
  };
  for (const GuestMemory::Region& region : regions.subspan(1)) map.push_back({raw(region.start), region.size, ram});
  return map;
}

}  // namespace minivm::boot

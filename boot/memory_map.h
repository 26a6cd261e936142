#pragma once

#include <cstdint>
#include <vector>

#include "base/guest_memory.h"

namespace minivm::boot {

/// A line of the memory map that firmware hands to a kernel. The types are those of e820 (ACPI 6.4, 15), which PVH
/// shares.
struct MemoryRange {
  enum class Type : std::uint32_t { ram = 1, reserved = 2 };

  std::uint64_t start = 0;
  std::uint64_t size = 0;
  Type type = Type::ram;
};

/// RAM below 640 KiB, the reserved ranges under 1 MiB, RAM up to the device hole, and RAM from 4 GiB on; ascending.
std::vector<MemoryRange> memory_map(const GuestMemory& memory);

}  // namespace minivm::boot

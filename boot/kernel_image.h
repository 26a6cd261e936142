#pragma once

#include <asm/bootparam.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/guest_memory.h"
#include "boot/kernel.h"

namespace minivm::boot {

/// A piece of the kernel: `file_size` bytes of the file at `file_offset` go to `address`, zeros follow up to
/// `memory_size`.
struct Segment {
  Gpa address{};
  std::uint64_t memory_size = 0;
  std::uint64_t file_offset = 0;
  std::uint64_t file_size = 0;

  Gpa end() const noexcept { return address + memory_size; }
};

/// Where and how the first vCPU enters the kernel.
struct Entry {
  enum class Protocol : std::uint8_t {
    linux_64,  // boot.rst, "64-bit boot protocol"
    pvh,       // the Xen PVH entry: 32-bit, paging off
  };

  Protocol protocol = Protocol::linux_64;
  Gpa address{};
};

/// What `load` places, whatever kind of file it came from.
struct Kernel::Image {
  std::string path;
  std::string release;
  std::string description;
  std::optional<KernelConfig> config;

  UniqueFd file;  // what the segments' offsets mean: the kernel file, a cache entry or a memfd
  std::vector<Segment> segments;
  Entry entry;
  setup_header header{};  // the bzImage's own, else the least that a kernel wants to see
  std::uint64_t end = 0;  // the kernel uses memory up to here before it looks at the memory map
};

}  // namespace minivm::boot

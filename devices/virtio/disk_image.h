#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"

namespace minivm::virtio {

/// The block sizes of a disk, in bytes: what the guest aligns its requests to.
struct BlockSizes {
  std::uint32_t logical = 512;   // the smallest unit of a request
  std::uint32_t physical = 512;  // the smallest unit that is written without being read first
  std::uint32_t optimal = 0;     // a good size for large requests; 0: any
};

/// An open disk: raw sectors in a regular file or a block device of the host, locked against other VMs.
struct DiskImage {
  std::string path;
  UniqueFd file;
  std::uint64_t size = 0;  // in bytes, a multiple of 512
  bool read_only = false;
  bool block_device = false;
  BlockSizes blocks;
  /// The same file past the host's page cache (O_DIRECT), and what it asks of offsets and sizes, and of addresses.
  /// Empty unless asked for. What is aligned otherwise goes through `file`: the kernel keeps the two coherent.
  UniqueFd direct;
  std::uint32_t direct_alignment = 0;
  std::uint32_t direct_memory_alignment = 0;
};

enum class HostCache : std::uint8_t { used, bypassed };

/// Opens and locks `path`: shared when read-only, else exclusively, by a lock that ends with the process. Images in
/// other formats are recognised, but never read as such: a guest could turn its raw disk into anything.
/// Throws std::system_error or std::runtime_error with a message for the user.
DiskImage open_image(const std::string& path, bool read_only, HostCache cache = HostCache::used);

/// The size that the file or device has now, in whole sectors; the size that is known when the host cannot tell.
std::uint64_t current_size(const DiskImage& image) noexcept;

}  // namespace minivm::virtio

#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"

namespace minivm::virtio {

/// An open disk: raw sectors in a regular file or a block device of the host, locked against other VMs.
struct DiskImage {
  std::string path;
  UniqueFd file;
  std::uint64_t size = 0;  // in bytes, a multiple of 512
  bool read_only = false;
};

/// Opens and locks `path`: shared when read-only, else exclusively, by a lock that ends with the process. Images in
/// other formats are recognised, but never read as such: a guest could turn its raw disk into anything.
/// Throws std::system_error or std::runtime_error with a message for the user.
DiskImage open_image(const std::string& path, bool read_only);

}  // namespace minivm::virtio

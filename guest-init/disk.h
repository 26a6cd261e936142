#pragma once

#include <string_view>

#include "guest-init/failure.h"

namespace minivm::guest {

struct DiskMount {
  std::string_view serial;       // of the virtio-blk device (VirtIO 1.2, 5.2.6: GET_ID)
  std::string_view filesystems;  // to try, separated by commas; empty: all that the kernel offers for devices
  bool read_only = false;
};

/// Waits some seconds for the disk to appear, then mounts it at `target` with the first type that fits.
Outcome mount_disk(const DiskMount& disk, const char* target) noexcept;

}  // namespace minivm::guest

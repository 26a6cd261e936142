#pragma once

#include "guest-init/failure.h"

namespace minivm::guest {

/// devtmpfs, proc and sysfs, which everything else needs. What is mounted already is fine.
Outcome mount_kernel_filesystems() noexcept;

/// Moves those three into the tree at `root`. A mount point that is missing there and cannot be made is left out, with
/// a word on the console when verbose.
void move_kernel_filesystems(const char* root) noexcept;

/// What programs expect in the finished root: /dev/pts, /dev/shm, /run, cgroup2, /tmp where the root's own does not
/// do, and the links of /dev. `init_is_ours`: nobody else will mount the rest.
void mount_for_programs(bool init_is_ours) noexcept;

/// Takes everything off again, so that an initrd finds the file system the kernel gave it.
void unmount_kernel_filesystems() noexcept;

/// Makes a directory unless it is there; false with errno when it is not there and cannot be made.
bool ensure_directory(const char* path, unsigned mode = 0755) noexcept;

}  // namespace minivm::guest

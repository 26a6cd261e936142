#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

namespace minivm::virtio {

/// One read, write or flush of a disk, from its first byte to its last. The host may move less than it was asked for;
/// what is left then stays here, for the next system call or ring entry.
struct DiskOperation {
  enum class Kind : std::uint8_t { read, write, flush };

  Kind kind = Kind::read;
  bool stable = false;  // a write that counts as done when it is on stable storage
  int fd = -1;
  std::uint64_t offset = 0;  // of what is left, in bytes
  std::span<iovec> data;     // what is left; consumed in place
  std::uint64_t moved = 0;   // bytes so far
  int error = 0;             // why it ended early: an errno

  /// For preadv2 and pwritev2, and their entries in a ring.
  int flags() const noexcept { return stable ? RWF_DSYNC : 0; }
  /// Takes what a system call or a ring returned: a count or -errno. True when the operation has come to its end.
  bool advance(std::int64_t result) noexcept;
};

/// Runs the operation to its end on this thread, which may block.
void run(DiskOperation& operation) noexcept;

/// Reads what the page cache has. True when that ended the operation; else the rest would block.
bool read_from_cache(DiskOperation& operation) noexcept;

}  // namespace minivm::virtio

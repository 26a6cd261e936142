#include "devices/virtio/disk_space.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace minivm::virtio {
namespace {

int allocate(const DiskImage& image, int mode, std::uint64_t offset, std::uint64_t size) noexcept {
  int result = 0;
  do {
    result =
        ::fallocate(image.file.get(), mode | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(size));
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

int write_zeroes_by_hand(const DiskImage& image, std::uint64_t offset, std::uint64_t size) noexcept {
  // Not const, which would be 64 KiB of zeros in the program's file.
  static std::array<std::byte, 64 << 10> zeros;
  while (size > 0) {
    const std::uint64_t count = std::min<std::uint64_t>(size, zeros.size());
    const ssize_t written = ::pwrite(image.file.get(), zeros.data(), count, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? errno : ENOSPC;
    offset += static_cast<std::uint64_t>(written);
    size -= static_cast<std::uint64_t>(written);
  }
  return 0;
}

}  // namespace

int discard(const DiskImage& image, std::uint64_t offset, std::uint64_t size) noexcept {
  if (size == 0) return 0;
  if (!image.block_device) return allocate(image, FALLOC_FL_PUNCH_HOLE, offset, size);
  std::array<std::uint64_t, 2> range{offset, size};
  return ::ioctl(image.file.get(), BLKDISCARD, range.data()) == 0 ? 0 : errno;
}

int write_zeroes(const DiskImage& image, std::uint64_t offset, std::uint64_t size, bool may_unmap) noexcept {
  if (size == 0) return 0;
  // Block devices know both modes, too.
  const int error = allocate(image, may_unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE, offset, size);
  return error == EOPNOTSUPP ? write_zeroes_by_hand(image, offset, size) : error;
}

}  // namespace minivm::virtio

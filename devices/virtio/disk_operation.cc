#include "devices/virtio/disk_operation.h"

#include <unistd.h>

#include <cerrno>

#include "devices/virtio/iovecs.h"

namespace minivm::virtio {
namespace {

std::int64_t call(const DiskOperation& operation, int flags) noexcept {
  const auto count = static_cast<int>(operation.data.size());
  const auto offset = static_cast<off_t>(operation.offset);
  std::int64_t result = 0;
  switch (operation.kind) {
    case DiskOperation::Kind::read:
      result = ::preadv2(operation.fd, operation.data.data(), count, offset, flags);
      break;
    case DiskOperation::Kind::write:
      result = ::pwritev2(operation.fd, operation.data.data(), count, offset, flags);
      break;
    case DiskOperation::Kind::flush:
      result = ::fdatasync(operation.fd);
      break;
  }
  return result < 0 ? -errno : result;
}

}  // namespace

bool DiskOperation::advance(std::int64_t result) noexcept {
  if (result == -EINTR) return false;
  if (result < 0) {
    error = static_cast<int>(-result);
    return true;
  }
  if (kind == Kind::flush) return true;
  // The image has become shorter, or the host's disk takes no more.
  if (result == 0) error = kind == Kind::read ? ENODATA : ENOSPC;
  if (result == 0) return true;
  const auto count = static_cast<std::uint64_t>(result);
  moved += count;
  offset += count;
  data = drop_front(data, count);
  return data.empty();
}

void run(DiskOperation& operation) noexcept {
  while (!operation.advance(call(operation, operation.flags()))) continue;
}

bool read_from_cache(DiskOperation& operation) noexcept {
  for (;;) {
    const std::int64_t result = call(operation, RWF_NOWAIT);
    if (result == -EAGAIN) return false;
    if (result == -EOPNOTSUPP) {
      // A file system that cannot tell. Most of these are in memory anyway.
      run(operation);
      return true;
    }
    if (operation.advance(result)) return true;
  }
}

}  // namespace minivm::virtio

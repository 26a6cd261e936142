#include "boot/read_at.h"

#include <unistd.h>

#include <cerrno>

namespace minivm::boot {

bool read_at(int fd, std::uint64_t offset, std::span<std::byte> to) noexcept {
  while (!to.empty()) {
    const ssize_t count = ::pread(fd, to.data(), to.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    to = to.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
  return true;
}

}  // namespace minivm::boot

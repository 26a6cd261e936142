#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

namespace minivm::virtio {

/// Lists of buffers as one run of bytes. A driver may cut a header or a payload anywhere (VirtIO 1.2, 2.7.4).

/// Copies from the front of `parts` until `to` is full; how many bytes there were.
inline std::size_t copy_front(std::span<const iovec> parts, std::span<std::byte> to) noexcept {
  std::size_t copied = 0;
  for (const iovec& part : parts) {
    const std::size_t size = std::min(part.iov_len, to.size() - copied);
    if (size != 0) std::memcpy(to.data() + copied, part.iov_base, size);
    copied += size;
  }
  return copied;
}

/// Stores `from` into the front of `parts`; how many bytes there was room for.
inline std::size_t store_front(std::span<const iovec> parts, std::span<const std::byte> from) noexcept {
  std::size_t stored = 0;
  for (const iovec& part : parts) {
    const std::size_t size = std::min(part.iov_len, from.size() - stored);
    if (size != 0) std::memcpy(part.iov_base, from.data() + stored, size);
    stored += size;
  }
  return stored;
}

/// What is left of `parts` without its first `size` bytes. Changes the first part that stays.
inline std::span<iovec> drop_front(std::span<iovec> parts, std::size_t size) noexcept {
  while (!parts.empty() && size >= parts.front().iov_len) {
    size -= parts.front().iov_len;
    parts = parts.subspan(1);
  }
  if (!parts.empty()) {
    parts.front().iov_base = static_cast<std::byte*>(parts.front().iov_base) + size;
    parts.front().iov_len -= size;
  }
  return parts;
}

/// The first `size` bytes of `parts`, or all. Changes the last part that stays.
inline std::span<iovec> keep_front(std::span<iovec> parts, std::size_t size) noexcept {
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (size == 0) return parts.first(i);
    parts[i].iov_len = std::min(parts[i].iov_len, size);
    size -= parts[i].iov_len;
  }
  return parts;
}

}  // namespace minivm::virtio

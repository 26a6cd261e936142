#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace minivm::boot {

/// Fills all of `to` from `offset` on; false when the file ends before that or cannot be read. Moves no file position.
bool read_at(int fd, std::uint64_t offset, std::span<std::byte> to) noexcept;

/// One value in the host's own byte order, which is that of every structure a kernel file holds.
template <typename T>
requires std::is_trivially_copyable_v<T>
bool read_at(int fd, std::uint64_t offset, T& value) noexcept {
  return read_at(fd, offset, std::as_writable_bytes(std::span(&value, 1)));
}

}  // namespace minivm::boot

#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "base/fd.h"

namespace minivm {

/// A file descriptor of the caller (a pipe, terminal, socket, file or device), read and written without ever blocking
/// on what others do, and without changing the flags of an open file description that others may share.
/// Regular files are the exception: their reads and writes take as long as the disk does.
class HostFile {
 public:
  enum class Direction : std::uint8_t { read, write };

  HostFile() noexcept = default;
  /// Takes `fd` over. A pipe or terminal is opened anew through /proc, which gives it flags of its own.
  HostFile(UniqueFd fd, Direction direction);

  /// For epoll: each HostFile has a descriptor of its own.
  int fd() const noexcept { return fd_.get(); }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

  /// As readv(2) and writev(2), restarted after EINTR: -1 with EAGAIN when nothing can move now.
  ssize_t read(std::span<const iovec> to) const noexcept;
  ssize_t write(std::span<const iovec> from) const noexcept;

 private:
  enum class Way : std::uint8_t {
    plain,   // non-blocking by itself, or a file that is always ready
    socket,  // MSG_DONTWAIT
    polled,  // blocking: asked with poll(2) first, and written in pieces that then fit
  };

  bool ready(short events) const noexcept;

  UniqueFd fd_;
  Way way_ = Way::plain;
};

}  // namespace minivm

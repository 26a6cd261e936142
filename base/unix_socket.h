#pragma once

#include <sys/types.h>

#include <string>

#include "base/fd.h"

namespace minivm {

/// Longest path of a Unix socket (unix(7)), without its terminator.
inline constexpr std::size_t max_unix_path = 107;

/// A listening Unix stream socket at a path of the file system, for its owner only; the file goes with it.
class UnixListener {
 public:
  /// A socket file there that nobody listens on is what a killed program left, and is replaced. Throws
  /// std::runtime_error that names the path when something else is there, or someone listens.
  explicit UnixListener(std::string path);
  ~UnixListener();
  UnixListener(const UnixListener&) = delete;
  UnixListener& operator=(const UnixListener&) = delete;

  int fd() const noexcept { return socket_.get(); }
  const std::string& path() const noexcept { return path_; }
  /// The next caller, as a non-blocking socket; empty, with errno, when there is none.
  UniqueFd accept() const noexcept;

 private:
  std::string path_;
  UniqueFd socket_;
  dev_t device_ = 0;  // of the file that was made
  ino_t inode_ = 0;
};

/// Connects to a Unix stream socket without waiting: the result is non-blocking, or empty with errno.
UniqueFd connect_unix(const std::string& path) noexcept;

}  // namespace minivm

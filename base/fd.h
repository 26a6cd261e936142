#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

namespace minivm {

/// Throws std::system_error of errno; `what` names the failed step and its object.
[[noreturn]] void throw_errno(std::string_view what);

/// Owns one file descriptor and closes it. Empty is -1.
class UniqueFd {
 public:
  UniqueFd() noexcept = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

/// A non-blocking, close-on-exec eventfd(2). Any thread may signal it.
class EventFd {
 public:
  /// Throws std::system_error when the host has no descriptor to give.
  EventFd();

  int fd() const noexcept { return fd_.get(); }
  void signal() const noexcept;
  /// Takes all that was signalled so far; 0 when nothing was.
  std::uint64_t drain() const noexcept;

 private:
  UniqueFd fd_;
};

/// Opens `path` with O_CLOEXEC added to `flags`. Throws std::system_error that names the path.
UniqueFd open_file(std::string_view path, int flags, unsigned mode = 0);

}  // namespace minivm

#include "base/fd.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

namespace minivm {

void throw_errno(std::string_view what) { throw std::system_error(errno, std::generic_category(), std::string(what)); }

void UniqueFd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

EventFd::EventFd() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!fd_) throw_errno("eventfd");
}

void EventFd::signal() const noexcept {
  const std::uint64_t one = 1;
  // EAGAIN means that the counter is full, so whoever waits is awake already.
  [[maybe_unused]] const auto written = ::write(fd_.get(), &one, sizeof one);
}

std::uint64_t EventFd::drain() const noexcept {
  std::uint64_t count = 0;
  return ::read(fd_.get(), &count, sizeof count) == sizeof count ? count : 0;
}

UniqueFd open_file(std::string_view path, int flags, unsigned mode) {
  const std::string name(path);
  UniqueFd fd(::open(name.c_str(), flags | O_CLOEXEC, mode));
  if (!fd) throw_errno(name);
  return fd;
}

}  // namespace minivm

#include "base/host_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace minivm {
namespace {

/// sendmsg and preadv take at most this many parts.
std::span<const iovec> allowed(std::span<const iovec> parts) noexcept {
  return parts.first(std::min<std::size_t>(parts.size(), IOV_MAX));
}

/// What can be opened a second time and stay the same object. Opening /dev/ptmx again, for one, makes another pty.
bool is_pipe_or_terminal(int fd, const struct stat& status) noexcept {
  constexpr unsigned terminal_multiplexer = 5;  // Documentation/admin-guide/devices.txt: 5 char, 2 = /dev/ptmx
  if (S_ISFIFO(status.st_mode)) return true;
  return S_ISCHR(status.st_mode) && ::isatty(fd) != 0 && status.st_rdev != ::makedev(terminal_multiplexer, 2);
}

template <typename Call>
ssize_t restarted(Call call) noexcept {
  ssize_t result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

}  // namespace

HostFile::HostFile(UniqueFd fd, Direction direction) : fd_(std::move(fd)) {
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) throw_errno("fstat");
  if (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode)) return;
  if (S_ISSOCK(status.st_mode)) {
    way_ = Way::socket;
    return;
  }
  if (!is_pipe_or_terminal(fd_.get(), status)) {
    way_ = Way::polled;
    return;
  }
  const int access = direction == Direction::read ? O_RDONLY : O_WRONLY;
  const std::string path = fmt::format("/proc/self/fd/{}", fd_.get());
  UniqueFd own(::open(path.c_str(), access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (own) {
    fd_ = std::move(own);
    return;
  }
  // Not ours to open, for instance a terminal of another user after su(1).
  const int flags = ::fcntl(fd_.get(), F_GETFL);
  way_ = flags >= 0 && (flags & O_NONBLOCK) != 0 ? Way::plain : Way::polled;
}

ssize_t HostFile::read(std::span<const iovec> to) const noexcept {
  to = allowed(to);
  const int count = static_cast<int>(to.size());
  if (way_ == Way::socket) {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(to.data());
    message.msg_iovlen = to.size();
    return restarted([&] { return ::recvmsg(fd_.get(), &message, MSG_DONTWAIT); });
  }
  if (way_ == Way::polled && !ready(POLLIN)) return -1;
  return restarted([&] { return ::readv(fd_.get(), to.data(), count); });
}

ssize_t HostFile::write(std::span<const iovec> from) const noexcept {
  from = allowed(from);
  const int count = static_cast<int>(from.size());
  if (way_ == Way::socket) {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(from.data());
    message.msg_iovlen = from.size();
    return restarted([&] { return ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL); });
  }
  if (way_ == Way::polled) {
    if (!ready(POLLOUT)) return -1;
    // pipe(7): a pipe that polls writable takes PIPE_BUF bytes at once.
    const auto part = std::ranges::find_if(from, [](const iovec& each) { return each.iov_len != 0; });
    if (part == from.end()) return 0;
    return restarted(
        [&] { return ::write(fd_.get(), part->iov_base, std::min<std::size_t>(part->iov_len, PIPE_BUF)); });
  }
  return restarted([&] { return ::writev(fd_.get(), from.data(), count); });
}

bool HostFile::ready(short events) const noexcept {
  pollfd poll{.fd = fd_.get(), .events = events, .revents = 0};
  if (::poll(&poll, 1, 0) > 0) return true;
  errno = EAGAIN;
  return false;
}

}  // namespace minivm

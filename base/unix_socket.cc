#include "base/unix_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace minivm {
namespace {

constexpr int backlog = 128;

UniqueFd make_socket() noexcept { return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }

/// `call` is bind or connect.
template <typename Call>
int with_address(Call call, int socket, const std::string& path) noexcept {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() > max_unix_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  std::ranges::copy(path, address.sun_path);
  return call(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

std::runtime_error refused(const std::string& path, std::string_view reason) {
  return std::runtime_error(fmt::format("socket {}: {}", path, reason));
}

/// Takes away a socket file of a program that is gone; throws when it is anything else.
void remove_stale(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return;
  if (!S_ISSOCK(status.st_mode)) throw refused(path, "there is a file that is no socket");
  if (connect_unix(path) || errno != ECONNREFUSED) throw refused(path, "in use by another program");
  ::unlink(path.c_str());
}

}  // namespace

UnixListener::UnixListener(std::string path) : path_(std::move(path)), socket_(make_socket()) {
  if (!socket_) throw_errno("socket");
  int result = with_address(::bind, socket_.get(), path_);
  if (result != 0 && errno == EADDRINUSE) {
    remove_stale(path_);
    result = with_address(::bind, socket_.get(), path_);
  }
  if (result != 0) throw refused(path_, std::strerror(errno));
  struct stat status {};
  // Nobody can connect before `listen`, so there is no moment at which others could.
  if (::chmod(path_.c_str(), 0600) != 0 || ::lstat(path_.c_str(), &status) != 0 ||
      ::listen(socket_.get(), backlog) != 0) {
    throw refused(path_, std::strerror(errno));
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
}

UnixListener::~UnixListener() {
  struct stat status {};
  const bool is_ours = ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
  if (is_ours) ::unlink(path_.c_str());
}

UniqueFd UnixListener::accept() const noexcept {
  return UniqueFd(::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

UniqueFd connect_unix(const std::string& path) noexcept {
  UniqueFd socket = make_socket();
  if (!socket || with_address(::connect, socket.get(), path) == 0) return socket;
  const int error = errno;
  socket.reset();
  errno = error;
  return socket;
}

}  // namespace minivm

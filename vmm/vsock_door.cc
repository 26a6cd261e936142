#include "vmm/vsock_door.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <stdexcept>
#include <utility>

#include "base/host_file.h"
#include "base/log.h"
#include "devices/virtio/vsock_fd.h"
#include "protocol/frame.h"

namespace minivm {
namespace {

using namespace std::chrono_literals;
using virtio::VsockEndpoint;

constexpr int callers_per_turn = 32;
/// How long no caller is taken after the host had no descriptor to give.
constexpr auto pause_without_descriptors = 1s;
constexpr std::uint32_t highest_port = 0xFFFF'FFFE;  // above it: VMADDR_PORT_ANY

/// A socket as the host end of a vsock connection, counted while it is. A caller is told when the guest has accepted.
class DoorEndpoint final : public VsockEndpoint {
 public:
  /// Throws std::system_error when the host has no descriptor to give.
  DoorEndpoint(EventLoop& loop, UniqueFd socket, std::shared_ptr<std::size_t> connections)
      : connections_(std::move(connections)), socket_(socket.get()) {
    UniqueFd copy(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
    if (!copy) throw_errno("duplicating a caller's socket");
    inner_ = virtio::make_fd_endpoint(loop, HostFile(std::move(socket), HostFile::Direction::read),
                                      HostFile(std::move(copy), HostFile::Direction::write), [](int) {});
    ++*connections_;
  }
  ~DoorEndpoint() override {
    if (inner_) --*connections_;
  }
  DoorEndpoint(const DoorEndpoint&) = delete;
  DoorEndpoint& operator=(const DoorEndpoint&) = delete;

  void announce(std::uint32_t host_port) { announcement_ = fmt::format("OK {}\n", host_port); }

  void attached(virtio::VsockStream& stream) noexcept override {
    // The first bytes that this socket is given, so there is room for them unless the caller has gone; what follows
    // then finds that out.
    if (!announcement_.empty()) {
      [[maybe_unused]] const auto ignored =
          ::send(socket_, announcement_.data(), announcement_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    inner_->attached(stream);
  }
  std::size_t receive(std::span<const iovec> data) noexcept override { return inner_->receive(data); }
  void receive_ended() noexcept override { inner_->receive_ended(); }
  Filled fill(std::span<const iovec> space) noexcept override { return inner_->fill(space); }
  void fill_ended() noexcept override { inner_->fill_ended(); }
  void closed(bool clean) noexcept override { inner_->closed(clean); }

 private:
  std::shared_ptr<std::size_t> connections_;
  int socket_;  // of `inner_`, which has it open until it is told to close
  std::shared_ptr<VsockEndpoint> inner_;
  std::string announcement_;
};

const std::string& checked(const std::string& path) {
  if (path.size() <= VsockDoor::max_path) return path;
  throw std::runtime_error(fmt::format("socket {}: longer than {} bytes", path, VsockDoor::max_path));
}

}  // namespace

std::optional<std::uint32_t> parse_connect(std::string_view line) {
  constexpr std::string_view word = "CONNECT ";
  if (!line.starts_with(word)) return std::nullopt;
  line.remove_prefix(word.size());
  std::uint32_t port = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), port);
  if (error != std::errc{} || end != line.data() + line.size() || port > highest_port) return std::nullopt;
  return port;
}

VsockDoor::VsockDoor(virtio::Vsock& vsock, EventLoop& loop, const std::string& path, std::chrono::milliseconds patience)
    : vsock_(vsock), loop_(loop), patience_(patience), listener_(checked(path)) {
  loop_.watch(listener_.fd(), EPOLLIN, [this](std::uint32_t) { on_callers(); });
  vsock_.listen_to_others([this](std::uint32_t host_port) { return dial_host(host_port); });
}

VsockDoor::~VsockDoor() {
  vsock_.listen_to_others({});
  while (!callers_.empty()) take(callers_.begin()->first);
  loop_.unwatch(listener_.fd());
  if (pause_ != 0) loop_.cancel(pause_);
}

void VsockDoor::on_callers() {
  for (int i = 0; i < callers_per_turn; ++i) {
    UniqueFd socket = listener_.accept();
    if (socket) {
      greet(std::move(socket));
      continue;
    }
    if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) return;
    // Who waits stays ready to be accepted, which would spin.
    log::warning("socket {}: no descriptor for a caller", listener_.path());
    loop_.rearm(listener_.fd(), 0);
    pause_ = loop_.after(pause_without_descriptors, [this] {
      pause_ = 0;
      loop_.rearm(listener_.fd(), EPOLLIN);
    });
    return;
  }
}

void VsockDoor::greet(UniqueFd socket) {
  if (full()) return;
  const int fd = socket.get();
  Caller& caller = callers_[fd];
  caller.socket = std::move(socket);
  caller.timer = loop_.after(patience_, [this, fd] {
    callers_[fd].timer = 0;
    take(fd);
  });
  try {
    // Edge-triggered: what came of the line stays in the socket until it is complete.
    loop_.watch(fd, EPOLLIN | EPOLLRDHUP | EPOLLET,
                [this, fd](std::uint32_t events) { on_line(fd, (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0); });
  } catch (const std::exception& error) {
    log::warning("socket {}: {}", listener_.path(), error.what());
    take(fd);
  }
}

void VsockDoor::on_line(int fd, bool ended) {
  std::array<char, max_line> buffer;
  const ssize_t size = ::recv(fd, buffer.data(), buffer.size(), MSG_PEEK | MSG_DONTWAIT);
  if (size < 0 && errno == EAGAIN && !ended) return;
  const std::string_view text(buffer.data(), static_cast<std::size_t>(size < 0 ? 0 : size));
  const std::size_t newline = text.find('\n');
  if (newline == text.npos && !ended && size > 0 && text.size() < max_line) return;
  UniqueFd socket = take(fd);
  if (newline == text.npos) return;
  const auto port = parse_connect(text.substr(0, newline));
  // PID 1 waits there for the command channel's own streams.
  if (port == protocol::stream_port) return;
  // The line is taken away; what follows it is the guest's.
  if (port && ::recv(fd, buffer.data(), newline + 1, MSG_DONTWAIT) == static_cast<ssize_t>(newline + 1)) {
    connect(std::move(socket), *port);
  }
}

/// The caller is none any more: its socket, which nothing watches.
UniqueFd VsockDoor::take(int fd) noexcept {
  auto caller = callers_.extract(fd);
  if (caller.empty()) return {};
  loop_.unwatch(fd);
  if (caller.mapped().timer != 0) loop_.cancel(caller.mapped().timer);
  return std::move(caller.mapped().socket);
}

void VsockDoor::connect(UniqueFd socket, std::uint32_t guest_port) {
  try {
    const auto endpoint = std::make_shared<DoorEndpoint>(loop_, std::move(socket), connections_);
    endpoint->announce(vsock_.connect(guest_port, endpoint));
  } catch (const std::exception& error) {
    log::warning("socket {}: {}", listener_.path(), error.what());
  }
}

std::shared_ptr<VsockEndpoint> VsockDoor::dial_host(std::uint32_t host_port) {
  if (full()) return nullptr;
  UniqueFd socket = connect_unix(fmt::format("{}_{}", listener_.path(), host_port));
  return socket ? std::make_shared<DoorEndpoint>(loop_, std::move(socket), connections_) : nullptr;
}

}  // namespace minivm

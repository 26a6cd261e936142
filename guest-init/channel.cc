#include "guest-init/channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
// After sys/socket.h, which it needs.
#include <linux/vm_sockets.h>

#include <cerrno>

#include "guest-init/clock.h"

namespace minivm::guest {
namespace {

using protocol::FrameHeader;
using protocol::FrameType;

constexpr std::uint32_t connect_ms = 5'000;
constexpr std::uint32_t answer_ms = 10'000;
constexpr std::uint32_t farewell_ms = 500;
/// The kernel's own limit of two seconds is short for a host that is busy.
constexpr timeval dial_deadline{.tv_sec = 60, .tv_usec = 0};

/// Largest answer that the boot expects: Welcome, with room for what later versions append.
constexpr std::size_t welcome_capacity = 256;

bool wait_for(int fd, short events, const Patience& patience) noexcept {
  pollfd wanted{fd, events, 0};
  return poll(&wanted, 1, patience.left_ms()) > 0;
}

/// Waits for the end of a connect that is under way. Returns 0 or errno.
int finish_connect(int socket, const Patience& patience) noexcept {
  if (!wait_for(socket, POLLOUT, patience)) return ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof(error);
  return getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

/// Begins to connect to the host's control port. Returns a non-blocking, close-on-exec socket, or -errno.
int dial_host() noexcept {
  Fd socket(::socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return -errno;
  setsockopt(socket.get(), AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &dial_deadline, sizeof(dial_deadline));
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = VMADDR_CID_HOST;
  address.svm_port = protocol::control_port;
  const int result = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  return result == 0 || errno == EINPROGRESS ? socket.release() : -errno;
}

/// The device may not be probed yet. Without the address family nothing will change: its module is not loaded.
bool may_change(int error) noexcept { return error == ENODEV || error == ENETUNREACH || error == ECONNRESET; }

}  // namespace

Outcome Channel::connect() noexcept {
  Patience patience(connect_ms);
  for (;;) {
    const int socket = dial_host();
    socket_.reset(socket < 0 ? -1 : socket);
    const int error = socket < 0 ? -socket : finish_connect(socket, patience);
    if (error == 0) return {};
    socket_.reset();
    if (!may_change(error) || !patience.wait()) return Failure{"connect", "to the host over vsock", error};
  }
}

Outcome Channel::greet(protocol::Ready& stamps) noexcept {
  std::byte buffer[welcome_capacity];
  const protocol::Hello hello{.init_started_ns = stamps.init_started_ns, .sent_ns = boot_time_ns()};
  if (!send(protocol::encode_frame(buffer, FrameType::hello, 0, hello))) {
    return Failure{"send", "hello to the host", errno};
  }
  if (!receive(std::span(buffer).first(FrameHeader::size))) return Failure{"receive", "the host's welcome", errno};
  const auto header = FrameHeader::decode(buffer);
  if (!header || header->type != FrameType::welcome || header->length > sizeof(buffer)) {
    return Failure{"receive", "the host's welcome", EPROTO};
  }
  const auto payload = std::span(buffer).first(header->length);
  if (!receive(payload)) return Failure{"receive", "the host's welcome", errno};
  stamps.welcomed_ns = boot_time_ns();
  const auto welcome = protocol::Welcome::decode(protocol::Reader(payload));
  if (!welcome || welcome->version != protocol::version) {
    Failure failure{"agree on", "the protocol: guest has version ", EPROTO};
    failure.object.add_number(protocol::version).add(", host ").add_number(welcome ? welcome->version : 0);
    return failure;
  }
  follow_host_clock(welcome->realtime_ns);
  return {};
}

void Channel::send_ready(const protocol::Ready& ready) noexcept {
  std::byte buffer[FrameHeader::size + sizeof(protocol::Ready)];
  // A connection that is lost is seen by the exec server at once.
  send(protocol::encode_frame(buffer, FrameType::ready, 0, ready));
}

void Channel::send_failed(const Failure& failure) noexcept {
  if (!socket_) return;
  std::byte buffer[1024];
  const protocol::Failed message{failure.step, failure.object.view(), static_cast<std::uint32_t>(failure.error)};
  if (!send(protocol::encode_frame(buffer, FrameType::failed, 0, message))) return;
  // What is on its way would be lost with the machine.
  shutdown(socket_.get(), SHUT_WR);
  wait_for(socket_.get(), POLLRDHUP, Patience(farewell_ms));
}

bool Channel::send(std::span<const std::byte> frame) noexcept {
  const Patience patience(answer_ms);
  while (!frame.empty()) {
    const ssize_t count = ::send(socket_.get(), frame.data(), frame.size(), MSG_NOSIGNAL);
    if (count >= 0) {
      frame = frame.subspan(static_cast<std::size_t>(count));
    } else if (errno != EAGAIN || !wait_for(socket_.get(), POLLOUT, patience)) {
      return false;
    }
  }
  return true;
}

bool Channel::receive(std::span<std::byte> bytes) noexcept {
  const Patience patience(answer_ms);
  while (!bytes.empty()) {
    const ssize_t count = recv(socket_.get(), bytes.data(), bytes.size(), 0);
    if (count > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(count));
      continue;
    }
    if (count == 0) errno = ECONNRESET;
    if (count == 0 || errno != EAGAIN) return false;
    if (!wait_for(socket_.get(), POLLIN, patience)) {
      errno = ETIMEDOUT;
      return false;
    }
  }
  return true;
}

}  // namespace minivm::guest

#include "guest-init/stream_listener.h"

#include <sys/socket.h>
// After sys/socket.h, which it needs.
#include <linux/vm_sockets.h>

#include <cerrno>

#include "protocol/frame.h"

namespace minivm::guest {
namespace {

/// More than the streams of all sessions there can be, so that the kernel refuses none.
constexpr int backlog = 2048;

}  // namespace

Outcome listen_for_streams(Fd& listener) noexcept {
  listener.reset(socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = VMADDR_CID_ANY;
  address.svm_port = protocol::stream_port;
  if (!listener || bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(listener.get(), backlog) != 0) {
    return Failure{"listen", "for the host's streams", errno};
  }
  return {};
}

int take_stream(int listener, std::uint32_t port) noexcept {
  for (;;) {
    sockaddr_vm peer{};
    socklen_t size = sizeof(peer);
    Fd stream(accept4(listener, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (stream && peer.svm_cid == VMADDR_CID_HOST && peer.svm_port == port) return stream.release();
    if (!stream && errno != EINTR && errno != ECONNABORTED && errno != ECONNRESET) {
      return errno == EAGAIN ? -ECONNREFUSED : -errno;
    }
  }
}

}  // namespace minivm::guest

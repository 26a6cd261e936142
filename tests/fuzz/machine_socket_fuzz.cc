#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/event_loop.h"
#include "base/fd.h"
#include "devices/virtio/vsock.h"
#include "vmm/command_channel.h"
#include "vmm/machine_record.h"
#include "vmm/output_log.h"
#include "vmm/socket_client.h"

/// What another process of the host may send or leave behind: any bytes on a machine's control socket, in any pieces
/// and with a descriptor now and then; any bytes in its logs and records.
namespace minivm {
namespace {

void send_with_descriptor(int socket, std::span<const std::byte> bytes) {
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  *reinterpret_cast<int*>(CMSG_DATA(header)) = socket;
  [[maybe_unused]] const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void talk_to_client(std::span<const std::byte> bytes) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) return;
  const UniqueFd peer(ends[0]);
  EventLoop loop;
  virtio::Vsock vsock(3, loop);
  CommandChannel channel(vsock, loop,
                         {[](const protocol::Hello&) {}, [](const protocol::Ready&) {}, [](const std::string&) {}});
  const SocketClient::Requests requests{
      .stop = [](std::chrono::milliseconds) {}, .kill = [] {}, .statistics = [](const auto&) {}};
  SocketClient client(UniqueFd(ends[1]), channel, requests, [](const std::function<void(SocketClient&)>&) {});
  while (!bytes.empty()) {
    const auto size = std::min<std::size_t>(bytes.size(), static_cast<std::size_t>(bytes.front()) + 1);
    if ((static_cast<unsigned>(bytes.front()) & 7U) == 7U) {
      send_with_descriptor(peer.get(), bytes.first(size));
    } else {
      [[maybe_unused]] const ssize_t sent = ::send(peer.get(), bytes.data(), size, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    bytes = bytes.subspan(size);
    if (!client.receive()) break;
    std::array<std::byte, 4096> answer;
    while (::recv(peer.get(), answer.data(), answer.size(), MSG_DONTWAIT) > 0) {
    }
  }
  client.abandon();
}

}  // namespace
}  // namespace minivm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  minivm::talk_to_client(bytes);
  minivm::for_each_output(bytes, [](std::uint32_t, std::span<const std::byte>) {});
  const std::string text(reinterpret_cast<const char*>(data), size);
  static_cast<void>(minivm::machine_from_json(text));
  static_cast<void>(minivm::end_from_json(text));
  return 0;
}

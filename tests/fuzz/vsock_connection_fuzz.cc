// One vsock connection, packet by packet: never more backlog than was announced, never more sent than there is credit
// for.
#include <vector>

#include "devices/virtio/vsock_connection.h"
#include "tests/fuzz/hostile_driver.h"

using namespace minivm;
using namespace minivm::virtio;

namespace {

void check(bool holds) {
  if (!holds) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using Event = VsockConnection::Event;
  test::Choices choices(data, size);
  const auto header = [&] {
    return vsock::PacketHeader{.len = static_cast<std::uint32_t>(choices.below(70'000)),
                               .type = vsock::type_stream,
                               .op = static_cast<std::uint16_t>(choices.below(9)),
                               .flags = static_cast<std::uint32_t>(choices.below(8)),
                               .buf_alloc = choices.next<std::uint32_t>(),
                               .fwd_cnt = choices.next<std::uint32_t>()};
  };
  VsockConnection connection = choices.flip() ? VsockConnection::accept(header()) : VsockConnection::dial();
  std::vector<std::byte> payload(70'000);
  while (!choices.empty() && !connection.gone()) {
    switch (choices.below(6)) {
      case 0: {
        const vsock::PacketHeader packet = header();
        const Event event = connection.on_packet(packet);
        if (event == Event::violation) connection.reset();
        if (event != Event::data) break;
        check(connection.backlog() <= VsockConnection::buf_alloc);
        if (connection.receive_ended()) {
          connection.take(packet.len);
          break;
        }
        if (packet.len == 0) break;
        // What had to wait goes first; only an empty buffer lets the packet be taken from where it is.
        const bool nothing_waits = connection.backlog() == packet.len;
        const auto taken = nothing_waits ? static_cast<std::uint32_t>(choices.below(packet.len + 1)) : 0;
        connection.take(taken);
        const iovec rest{payload.data(), packet.len - taken};
        if (rest.iov_len != 0) connection.keep(std::span(&rest, 1));
        break;
      }
      case 1: {
        std::uint64_t kept = 0;
        for (const iovec& part : connection.kept()) {
          for (std::size_t i = 0; i < part.iov_len; i += 512) payload[0] ^= static_cast<std::byte*>(part.iov_base)[i];
          kept += part.iov_len;
        }
        check(kept <= connection.backlog());
        if (kept > 0) connection.take(static_cast<std::uint32_t>(choices.below(kept + 1)));
        break;
      }
      case 2:
        if (const std::uint32_t credit = connection.send_credit()) {
          connection.sent(static_cast<std::uint32_t>(choices.below(std::min<std::size_t>(credit, 65'536) + 1)));
          check(connection.send_credit() <= credit);
        }
        break;
      case 3: {
        vsock::PacketHeader out;
        if (const auto control = connection.next_control()) check(control->op >= 1 && control->op <= 7);
        connection.stamp(out);
        check(out.buf_alloc == VsockConnection::buf_alloc);
        break;
      }
      case 4:
        if (choices.flip()) connection.end_receive();
        break;
      default:
        if (choices.flip()) connection.end_send();
        break;
    }
  }
  return 0;
}

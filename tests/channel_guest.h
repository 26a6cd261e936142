#pragma once

#include <array>
#include <catch2/catch.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tests/vsock_guest.h"
#include "vmm/command_channel.h"

namespace minivm::test {

using protocol::FrameHeader;
using protocol::FrameType;

inline constexpr std::uint32_t guest_port = 5000;

struct Frame {
  FrameHeader header;
  std::vector<std::byte> payload;
};

/// A command channel on a real vsock device, with PID 1 played through the device's rings.
class ChannelGuest {
 public:
  ChannelGuest() {
    guest.on_loop([&] {
      channel.emplace(guest.device, guest.loop,
                      CommandChannel::Events{.hello = [this](const protocol::Hello&) { events.emplace_back("hello"); },
                                             .ready = [this](const protocol::Ready&) { events.emplace_back("ready"); },
                                             .failed = [this](std::string why) { events.push_back(std::move(why)); }});
    });
    guest.post_rx();
  }
  ~ChannelGuest() {
    guest.on_loop([&] { channel.reset(); });
  }
  ChannelGuest(const ChannelGuest&) = delete;
  ChannelGuest& operator=(const ChannelGuest&) = delete;

  template <typename Message>
  void say(FrameType type, std::uint32_t id, const Message& message) {
    std::array<std::byte, 256> buffer;
    const auto frame = protocol::encode_frame(buffer, type, id, message);
    const auto header = guest.header(virtio::vsock::op_rw, guest_port, protocol::control_port,
                                     static_cast<std::uint32_t>(frame.size()));
    while (!guest.queue(header, {reinterpret_cast<const char*>(frame.data()), frame.size()})) guest.settle();
    guest.notify_tx();
  }
  /// The host's next frame; nothing when the control connection was reset instead.
  std::optional<Frame> hear() {
    for (;;) {
      const auto packet = guest.receive();
      if (!packet) return std::nullopt;
      if (packet->header.dst_port != guest_port) continue;
      if (packet->header.op == virtio::vsock::op_rst) return std::nullopt;
      if (packet->header.op != virtio::vsock::op_rw) continue;
      const auto bytes = std::as_bytes(std::span(packet->payload));
      const auto header = FrameHeader::decode(bytes);
      REQUIRE(header);
      REQUIRE(bytes.size() == FrameHeader::size + header->length);  // small ones come in one packet
      const auto payload = bytes.subspan(FrameHeader::size);
      return Frame{*header, {payload.begin(), payload.end()}};
    }
  }
  void become_ready() {
    REQUIRE(guest.connect(guest_port, protocol::control_port));
    say(FrameType::hello, 0, protocol::Hello{});
    const auto welcome = hear();
    REQUIRE(welcome);
    REQUIRE(welcome->header.type == FrameType::welcome);
    say(FrameType::ready, 0, protocol::Ready{});
    guest.settle();
  }
  std::vector<std::string> seen() {
    guest.settle();
    std::vector<std::string> copy;
    guest.on_loop([&] { copy = events; });
    return copy;
  }
  CommandChannel::ExecId exec(Command command, CommandStreams streams = {}) {
    CommandChannel::ExecId id = 0;
    guest.on_loop([&] {
      id = channel->exec(std::move(command), std::move(streams), 24, 80,
                         [this](const ExecOutcome& outcome) { outcomes.push_back(outcome); });
    });
    return id;
  }
  std::vector<ExecOutcome> ended() {
    guest.settle();
    std::vector<ExecOutcome> copy;
    guest.on_loop([&] { copy = outcomes; });
    return copy;
  }

  VsockGuest guest;
  std::vector<std::string> events;  // on the loop's thread, like the channel
  std::vector<ExecOutcome> outcomes;
  std::optional<CommandChannel> channel;
};

}  // namespace minivm::test

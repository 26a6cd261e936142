#include "vmm/control_connection.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <optional>
#include <string>

#include "protocol/messages.h"

namespace minivm {
namespace {

using protocol::FrameHeader;
using protocol::FrameType;
using Bytes = std::vector<std::byte>;

/// The vsock device's side of the connection.
struct Stream final : virtio::VsockStream {
  void resume_fill() noexcept override { ++resumed; }
  void resume_receive() noexcept override {}
  void end_receive() noexcept override {}
  void close() noexcept override { ++closes; }
  int resumed = 0;
  int closes = 0;
};

struct Frame {
  FrameType type;
  std::uint32_t id;
  Bytes payload;
  bool operator==(const Frame&) const = default;
};

struct Connected {
  Connected() { connection.attached(stream); }

  /// What the guest sends, in one piece; all of it must be taken, or the guest would wait for ever.
  void receive(std::span<const std::byte> bytes) {
    Bytes copy(bytes.begin(), bytes.end());
    const iovec part{copy.data(), copy.size()};
    REQUIRE(connection.receive({&part, 1}) == copy.size());
  }

  Stream stream;
  std::vector<Frame> frames;
  std::vector<std::string> ends;
  std::optional<FrameType> refused;  // the handler says false to these
  ControlConnection connection{[this](const FrameHeader& header, std::span<const std::byte> payload) {
                                 frames.push_back({header.type, header.id, {payload.begin(), payload.end()}});
                                 return header.type != refused;
                               },
                               [this](std::string reason) { ends.push_back(std::move(reason)); }};
};

Bytes encode(FrameType type, std::uint32_t id, std::size_t payload_size) {
  Bytes frame(FrameHeader::size + payload_size);
  protocol::Writer writer(frame);
  FrameHeader{static_cast<std::uint32_t>(payload_size), type, id}.encode(writer);
  for (std::size_t i = 0; i < payload_size; ++i) frame[FrameHeader::size + i] = static_cast<std::byte>(i * 31 + id);
  return frame;
}

Bytes operator+(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

Frame decoded(const Bytes& frame) {
  const auto header = FrameHeader::decode(frame).value();
  return {header.type, header.id, {frame.begin() + FrameHeader::size, frame.end()}};
}

TEST_CASE("Frames come out whole, wherever the bytes are split") {
  const Bytes first = encode(FrameType::started, 1, 4);
  const Bytes empty = encode(FrameType::exited, 2, 0);
  const Bytes last = encode(FrameType::exited, 3, 9);
  const Bytes all = first + empty + last;
  for (std::size_t split = 0; split <= all.size(); ++split) {
    CAPTURE(split);
    Connected guest;
    guest.receive(std::span(all).first(split));
    guest.receive(std::span(all).subspan(split));
    CHECK(guest.frames == std::vector{decoded(first), decoded(empty), decoded(last)});
    CHECK(guest.ends.empty());
  }
}

TEST_CASE("Frames come out whole, byte by byte") {
  const Bytes frame = encode(FrameType::ready, 7, 32);
  Connected guest;
  for (int times = 0; times < 2; ++times) {
    for (const std::byte& byte : frame) guest.receive({&byte, 1});
  }
  CHECK(guest.frames == std::vector{decoded(frame), decoded(frame)});
}

TEST_CASE("A frame may lie in several of the guest's buffers, empty ones among them") {
  Bytes frame = encode(FrameType::ready, 7, 32);
  Connected guest;
  const std::array parts{iovec{frame.data(), 5}, iovec{frame.data(), 0}, iovec{frame.data() + 5, 20},
                         iovec{frame.data() + 25, frame.size() - 25}};
  CHECK(guest.connection.receive(parts) == frame.size());
  CHECK(guest.frames == std::vector{decoded(frame)});
}

TEST_CASE("The longest frame that is allowed comes out whole, and what follows it too") {
  const Bytes longest = encode(FrameType::failed, 1, FrameHeader::max_payload);
  const Bytes next = encode(FrameType::ready, 2, 3);
  Connected guest;
  guest.receive(longest + next);
  REQUIRE(guest.frames.size() == 2);
  CHECK((guest.frames[0] == decoded(longest)));
  CHECK((guest.frames[1] == decoded(next)));
}

TEST_CASE("A frame that is too long ends the connection at its header") {
  for (const std::uint32_t length : {FrameHeader::max_payload + 1, 0x8000'0000U, 0xFFFF'FFFFU}) {
    CAPTURE(length);
    Bytes header(FrameHeader::size);
    protocol::Writer writer(header);
    FrameHeader{length, FrameType::ready, 0}.encode(writer);
    Connected guest;
    guest.receive(encode(FrameType::hello, 0, 2) + header);
    CHECK(guest.frames.size() == 1);
    CHECK(guest.stream.closes == 1);
    REQUIRE(guest.ends.size() == 1);
    CHECK_THAT(guest.ends[0], Catch::Contains("protocol"));
    // All that still comes is dropped.
    guest.receive(Bytes(100'000));
    guest.receive(encode(FrameType::ready, 0, 0));
    CHECK(guest.frames.size() == 1);
    CHECK(guest.ends.size() == 1);
    CHECK(guest.stream.closes == 1);
  }
}

TEST_CASE("A frame that the channel refuses ends the connection, and what follows it is dropped") {
  Connected guest;
  guest.refused = FrameType::ready;
  guest.receive(encode(FrameType::ready, 0, 5) + encode(FrameType::exited, 1, 8));
  CHECK(guest.frames.size() == 1);
  CHECK(guest.stream.closes == 1);
  CHECK(guest.ends.size() == 1);
}

TEST_CASE("After the end nothing is sent any more") {
  Connected guest;
  guest.refused = FrameType::ready;
  guest.receive(encode(FrameType::ready, 0, 0));
  guest.connection.send(encode(FrameType::exec, 1, 10));
  CHECK(guest.stream.resumed == 0);
}

TEST_CASE("Any bytes at all are taken and never make more frames than they can hold") {
  std::uint32_t state = GENERATE(1U, 2U, 3U, 4U);
  Connected guest;
  std::size_t sent = 0;
  for (int round = 0; round < 200; ++round) {
    Bytes bytes(1 + state % 97);
    for (std::byte& byte : bytes) {
      state = state * 1'664'525 + 1'013'904'223;
      byte = static_cast<std::byte>(state % 5 == 0 ? state >> 24 : 0);  // mostly zeros: short frames
    }
    guest.receive(bytes);
    sent += bytes.size();
  }
  CHECK(guest.frames.size() <= sent / FrameHeader::size);
  CHECK(guest.ends.size() <= 1);
}

TEST_CASE("What is sent goes out in order, in pieces of any size") {
  const Bytes sent = encode(FrameType::exec, 1, 100) + encode(FrameType::signal, 1, 4);
  const auto piece = GENERATE(std::size_t{1}, std::size_t{7}, std::size_t{1000});
  Connected guest;
  guest.connection.send(encode(FrameType::exec, 1, 100));
  guest.connection.send(encode(FrameType::signal, 1, 4));
  CHECK(guest.stream.resumed == 2);
  Bytes received;
  for (bool more = true; more;) {
    Bytes space(piece);
    const std::array parts{iovec{space.data(), piece / 2}, iovec{space.data() + piece / 2, piece - piece / 2}};
    const auto filled = guest.connection.fill(parts);
    CHECK_FALSE(filled.end);
    received.insert(received.end(), space.begin(), space.begin() + static_cast<std::ptrdiff_t>(filled.size));
    more = filled.size > 0;
  }
  CHECK(received == sent);
}

TEST_CASE("What was sent before the connection stood goes out once it does") {
  Connected guest;
  Stream stream;
  ControlConnection early([](const FrameHeader&, std::span<const std::byte>) { return true; },
                          [](const std::string&) {});
  early.send(encode(FrameType::welcome, 0, 12));
  early.attached(stream);
  CHECK(stream.resumed == 1);
}

TEST_CASE("The end of the connection is told once, with its reason") {
  Connected guest;
  SECTION("closed by the guest") {
    guest.connection.receive_ended();
    REQUIRE(guest.ends.size() == 1);
    CHECK_THAT(guest.ends[0], Catch::Contains("closed"));
  }
  SECTION("reset") {
    guest.connection.closed(false);
    REQUIRE(guest.ends.size() == 1);
    CHECK_THAT(guest.ends[0], Catch::Contains("dropped"));
  }
  guest.connection.closed(true);
  CHECK(guest.ends.size() == 1);
}

}  // namespace
}  // namespace minivm

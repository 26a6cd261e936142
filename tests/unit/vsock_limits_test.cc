#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "tests/vsock_fixture.h"

using namespace minivm;
using namespace minivm::virtio;
using Fixture = minivm::test::VsockFixture;
using minivm::test::RecordingEndpoint;
using minivm::test::VsockGuest;

namespace {

constexpr std::uint32_t port = Fixture::port;
constexpr std::uint32_t guest_port = Fixture::guest_port;

}  // namespace

TEST_CASE("without receive buffers, replies are bounded and the guest's packets wait (rule 38)") {
  Fixture fixture;
  auto& guest = fixture.guest;
  // Twice what the device is willing to remember.
  std::uint32_t offered = 0;
  std::uint32_t returned = 0;
  for (std::uint32_t idle = 0; offered < 600 && idle < 20;) {
    if (offered - returned < 100) {
      guest.send(guest.header(vsock::op_rw, offered++, 9999));
      idle = 0;
    } else {
      guest.settle();
      ++idle;
    }
    while (guest.tx.take_used()) ++returned;
  }
  CHECK(offered - returned == 100);
  CHECK(returned == 256);
  // Buffers come: all that was offered is answered, in order.
  guest.post_rx();
  for (std::uint32_t i = 0; i < offered; ++i) {
    const auto packet = guest.receive();
    REQUIRE(packet);
    REQUIRE(packet->header.op == vsock::op_rst);
    REQUIRE(packet->header.dst_port == i);
  }
  guest.settle();
  while (guest.tx.take_used()) ++returned;
  CHECK(returned == offered);
}

TEST_CASE("connections are limited in number, and each slot comes back (rule 42)") {
  VsockGuest guest;
  guest.post_rx();
  guest.on_loop(
      [&] { guest.device.listen(port, [](std::uint32_t) { return std::make_shared<RecordingEndpoint>(); }); });
  for (std::uint32_t i = 0; i < Vsock::max_connections; ++i) REQUIRE(guest.connect(i, port));
  CHECK_FALSE(guest.connect(100'000, port));
  auto dialled = std::make_shared<RecordingEndpoint>();
  guest.on_loop([&] { guest.device.connect(1, dialled); });
  guest.settle();
  CHECK(dialled->events == "closed(cut) ");
  guest.send(guest.header(vsock::op_rst, 17, port));
  CHECK(guest.connect(100'000, port));
}

TEST_CASE("requests that are reset before they are answered leave nothing behind") {
  Fixture fixture;
  auto& guest = fixture.guest;
  for (int i = 0; i < 300; ++i) {
    guest.send(guest.header(vsock::op_request, guest_port, port));
    guest.send(guest.header(vsock::op_rst, guest_port, port));
    while (guest.tx.take_used()) {
    }
    guest.settle();
    while (guest.tx.take_used()) {
    }
  }
  guest.post_rx();
  CHECK(guest.poll_op() == 0);
}

TEST_CASE("the guest's credit bounds what it is sent (rule 36, CVE-2026-23086)") {
  Fixture fixture;
  auto& guest = fixture.guest;
  guest.post_rx();
  auto request = guest.header(vsock::op_request, guest_port, port);
  request.buf_alloc = 10'000;
  guest.send(request);
  REQUIRE(guest.receive());
  fixture.host_sends(std::string(30'000, 'x'));
  const auto drain = [&] {
    std::size_t size = 0;
    guest.settle();
    while (const auto packet = guest.poll_packet()) size += packet->payload.size();
    return size;
  };
  CHECK(drain() == 10'000);
  auto update = guest.header(vsock::op_credit_update, guest_port, port);
  update.buf_alloc = 10'000;
  update.fwd_cnt = 4'000;
  guest.send(update);
  CHECK(drain() == 4'000);
  update.buf_alloc = 5'000;  // shrunk, with 10,000 on their way
  guest.send(update);
  CHECK(drain() == 0);
  update.buf_alloc = 100'000;
  guest.send(update);
  CHECK(drain() == 16'000);
}

TEST_CASE("many streams share the receive queue, and none keeps another or control packets waiting (rules 38 and 41)") {
  VsockGuest guest;
  constexpr std::uint32_t streams = 8;
  std::vector<std::shared_ptr<RecordingEndpoint>> endpoints;
  for (std::uint32_t i = 0; i < streams; ++i) {
    endpoints.push_back(std::make_shared<RecordingEndpoint>());
  }
  guest.on_loop([&] { guest.device.listen(port, [&](std::uint32_t from) { return endpoints.at(from); }); });
  guest.post_rx();
  for (std::uint32_t i = 0; i < streams; ++i) REQUIRE(guest.connect(i, port));
  guest.on_loop([&] {
    for (std::uint32_t i = 0; i < streams; ++i) {
      endpoints[i]->outgoing.assign(200'000 + i, static_cast<char>('a' + i));
      endpoints[i]->stream->resume_fill();
    }
  });
  std::array<std::size_t, streams> got{};
  std::size_t total = 0;
  std::size_t total_at_answer = 0;
  bool asked = false;
  bool one_is_through = false;
  while (total < 200'000 * streams + streams * (streams - 1) / 2) {
    const auto packet = guest.receive();
    REQUIRE(packet);
    if (packet->header.op == vsock::op_rst) total_at_answer = total;
    if (packet->header.op != vsock::op_rw) continue;
    const std::uint32_t to = packet->header.dst_port;
    REQUIRE(packet->payload == std::string(packet->payload.size(), static_cast<char>('a' + to)));
    got.at(to) += packet->payload.size();
    total += packet->payload.size();
    if (!asked && total > 100'000) {
      asked = true;
      guest.send(guest.header(vsock::op_rw, 77, 77));
    }
    // When the first one is through, nobody has been left behind.
    if (got.at(to) >= 200'000 && !one_is_through) {
      one_is_through = true;
      CHECK(std::ranges::min(got) >= 50'000);
    }
  }
  CHECK(total_at_answer != 0);
  CHECK(total_at_answer < 100'000 + 600'000);
}

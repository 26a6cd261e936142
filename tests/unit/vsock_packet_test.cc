#include <catch2/catch.hpp>
#include <optional>
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

TEST_CASE("header and payload may be cut anywhere, in either direction (rule 34)") {
  Fixture fixture;
  auto& guest = fixture.guest;
  guest.post_rx(1);
  guest.reposts = false;
  fixture.connect();

  const std::string text = "payload of a packet";
  const auto header = guest.header(vsock::op_rw, guest_port, port, static_cast<std::uint32_t>(text.size()));
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += text + "beyond len: not for the endpoint";
  const auto offer = [&](std::vector<std::size_t> cuts) {
    std::size_t from = 0;
    cuts.push_back(bytes.size());
    for (const std::size_t cut : cuts) {
      guest.tx.readable(std::as_bytes(std::span(bytes).subspan(from, cut - from)));
      from = cut;
    }
    guest.tx.offer_indirect();
    guest.notify_tx();
  };
  std::string expected;
  for (const auto& cuts : std::vector<std::vector<std::size_t>>{{}, {44}, {10, 43, 45}, {1, 2, 3, 44, 50, 60}, {43}}) {
    offer(cuts);
    expected += text;
    CHECK(fixture.received() == expected);
  }
  std::vector<std::size_t> every_byte;
  for (std::size_t i = 1; i < bytes.size(); ++i) every_byte.push_back(i);
  offer(every_byte);
  CHECK(fixture.received() == expected + text);

  // Two buffers of 44 + 6 bytes, cut oddly, then one in a single descriptor.
  guest.rx.writable(20).writable(23).writable(3).writable(4).offer();
  guest.rx.writable(50).offer();
  guest.rx.writable(4096).offer();
  guest.on_loop([&] { guest.device.on_notify(vsock::rx_queue); });
  fixture.host_sends("0123456789abcdefgh");
  std::string got;
  for (const std::size_t size : {6U, 6U, 6U}) {
    const auto packet = guest.receive();
    REQUIRE(packet);
    CHECK(packet->payload.size() == size);
    got += packet->payload;
  }
  CHECK(got == "0123456789abcdefgh");
}

TEST_CASE("buffers of more parts than one read takes are filled one after the other") {
  Fixture fixture;
  auto& guest = fixture.guest;
  guest.post_rx(1);
  guest.reposts = false;
  fixture.connect();
  constexpr std::size_t payload = DescriptorChain::max_buffers * 2 / 3;
  for (int chain = 0; chain < 3; ++chain) {
    guest.rx.writable(sizeof(vsock::PacketHeader));
    for (std::size_t i = 0; i < payload; ++i) guest.rx.writable(1);
    guest.rx.offer_indirect();
  }
  guest.on_loop([&] { guest.device.on_notify(vsock::rx_queue); });
  std::string text;
  for (std::size_t i = 0; i < 2 * payload + 1; ++i) text += static_cast<char>('a' + i % 26);
  fixture.host_sends(text);
  std::string got;
  for (const std::size_t size : {payload, payload, std::size_t{1}}) {
    const auto packet = guest.receive();
    REQUIRE(packet);
    CHECK(packet->payload.size() == size);
    got += packet->payload;
  }
  CHECK(got == text);
}

TEST_CASE("buffers without room for payload are returned and not used (rule 12)") {
  Fixture fixture;
  auto& guest = fixture.guest;
  guest.rx.writable(43).offer();
  guest.rx.writable(44).offer();
  guest.rx.readable(std::as_bytes(std::span("only readable"))).offer();
  guest.post_rx(1);
  guest.send(guest.header(vsock::op_request, guest_port, port));
  for (int i = 0; i < 3; ++i) {
    std::optional<test::FakeDriver::Used> used;
    guest.settle();
    REQUIRE((used = guest.rx.take_used()));
    CHECK(used->written == 0);
  }
  const auto packet = guest.receive();
  REQUIRE(packet);
  CHECK(packet->header.op == vsock::op_response);
}

TEST_CASE("packets that belong to no connection are answered with RST, except a RST (rule 35)") {
  Fixture fixture;
  auto& guest = fixture.guest;
  guest.post_rx();
  const auto expect_rst = [&](const VsockGuest::Header& header) {
    guest.send(header);
    const auto answer = guest.receive();
    REQUIRE(answer);
    CHECK(answer->header.op == vsock::op_rst);
    CHECK(answer->header.src_cid == header.dst_cid);
    CHECK(answer->header.dst_cid == VsockGuest::cid);
    CHECK(answer->header.src_port == header.dst_port);
    CHECK(answer->header.dst_port == header.src_port);
    CHECK(answer->header.type == header.type);
  };
  expect_rst(guest.header(vsock::op_request, guest_port, port + 1));  // nobody listens
  for (const int op : {0, 2, 4, 6, 7, 8, 999}) {
    expect_rst(guest.header(static_cast<std::uint16_t>(op), guest_port, port));
  }
  auto unknown = guest.header(vsock::op_rw, guest_port, port, 4);
  guest.send(unknown, "data");
  CHECK(guest.poll_op() == vsock::op_rst);

  fixture.connect();
  auto other_type = guest.header(vsock::op_request, guest_port + 1, port);
  other_type.type = vsock::type_seqpacket;
  expect_rst(other_type);
  auto other_cid = guest.header(vsock::op_request, guest_port + 1, port);
  other_cid.dst_cid = 7;
  expect_rst(other_cid);
  other_cid.dst_cid = Vsock::host_cid | (1ULL << 32);
  expect_rst(other_cid);

  guest.send(guest.header(vsock::op_rst, guest_port + 9, port));
  CHECK(guest.poll_op() == 0);
  auto forged = guest.header(vsock::op_request, guest_port + 1, port);
  forged.src_cid = 99;
  guest.send(forged);
  CHECK(guest.poll_op() == 0);
  guest.tx.readable(std::as_bytes(std::span("too short for a header"))).offer();
  guest.notify_tx();
  CHECK(guest.poll_op() == 0);
  CHECK(fixture.events().empty());  // the connection has seen nothing of it
}

TEST_CASE("a guest that breaks the rules of a connection loses that connection only") {
  Fixture fixture;
  auto& guest = fixture.guest;
  guest.post_rx();
  auto other = std::make_shared<RecordingEndpoint>();
  guest.on_loop([&] { guest.device.listen(port + 1, [&](std::uint32_t) { return other; }); });
  fixture.connect();
  REQUIRE(guest.connect(guest_port, port + 1));

  SECTION("a length beyond the buffers") { guest.send(guest.header(vsock::op_rw, guest_port, port, 100), "short"); }
  SECTION("more than there is room for") {
    guest.on_loop([&] { fixture.endpoint->room = 0; });
    const std::string chunk(64 * 1024, 'x');
    for (int i = 0; i < 4; ++i) fixture.send(chunk);
    CHECK(fixture.events().empty());
    fixture.send("x");
  }
  SECTION("a second request") { guest.send(guest.header(vsock::op_request, guest_port, port)); }
  SECTION("an operation that does not exist") { guest.send(guest.header(77, guest_port, port)); }

  const auto answer = guest.receive();
  REQUIRE(answer);
  CHECK(answer->header.op == vsock::op_rst);
  CHECK(answer->header.src_port == port);
  CHECK(fixture.events() == "closed(cut) ");
  guest.send(guest.header(vsock::op_rw, guest_port, port + 1, 2), "ok");
  guest.settle();
  guest.on_loop([&] {
    CHECK(other->received == "ok");
    CHECK(other->events.empty());
  });
}

TEST_CASE("a broken ring is reported once, and the other directions of the device stay safe (rule 5)") {
  Fixture fixture;
  auto& guest = fixture.guest;
  guest.post_rx();
  fixture.connect();
  guest.tx.set_available_idx(static_cast<std::uint16_t>(guest.tx.available_idx() + 1000));
  guest.on_loop([&] { guest.device.on_notify(vsock::tx_queue); });
  guest.on_loop([&] {
    CHECK(guest.needs_reset);
    guest.needs_reset = false;
    guest.device.on_notify(vsock::tx_queue);
    CHECK_FALSE(guest.needs_reset);
  });
  guest.on_loop([&] { guest.device.reset(); });
  CHECK(fixture.events() == "closed(cut) ");
}

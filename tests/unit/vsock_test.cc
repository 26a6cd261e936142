#include "devices/virtio/vsock.h"

#include <array>
#include <catch2/catch.hpp>
#include <string>
#include <utility>

#include "tests/vsock_fixture.h"

using namespace minivm;
using namespace minivm::virtio;
using Fixture = minivm::test::VsockFixture;
using minivm::test::RecordingEndpoint;
using minivm::test::VsockGuest;

namespace {

constexpr std::uint32_t port = Fixture::port;
constexpr std::uint32_t guest_port = Fixture::guest_port;
constexpr std::uint32_t both = vsock::shutdown_receive | vsock::shutdown_send;

}  // namespace

TEST_CASE("the configuration space is the guest's CID, and zero beyond it") {
  EventLoop loop;
  const Vsock device(0x1'0000'0003, loop);
  std::array<std::byte, 12> data;
  data.fill(std::byte{0xEE});
  device.read_config(0, data);
  std::uint64_t cid = 0;
  std::memcpy(&cid, data.data(), sizeof cid);
  CHECK(cid == 0x1'0000'0003);
  CHECK(data[8] == std::byte{0});
  device.read_config(4, std::span(data).first(4));
  CHECK(data[0] == std::byte{1});
  device.read_config(~std::uint64_t{0}, data);
  CHECK(data[0] == std::byte{0});
}

TEST_CASE("a stream goes both ways, with and without EVENT_IDX") {
  Fixture fixture(GENERATE(VsockGuest::all_features, feature::version_1));
  fixture.guest.post_rx();
  fixture.connect();
  fixture.send("hello");
  CHECK(fixture.received() == "hello");
  fixture.host_sends("world");
  const auto packet = fixture.guest.receive();
  REQUIRE(packet);
  CHECK(packet->header.op == vsock::op_rw);
  CHECK(packet->header.src_cid == Vsock::host_cid);
  CHECK(packet->header.dst_cid == VsockGuest::cid);
  CHECK(packet->header.type == vsock::type_stream);
  CHECK(packet->header.fwd_cnt == 5);
  CHECK(packet->header.buf_alloc == VsockConnection::buf_alloc);
  CHECK(packet->payload == "world");
}

TEST_CASE("what the host end has to say comes right behind the response") {
  Fixture fixture;
  fixture.endpoint->outgoing = "banner";
  fixture.guest.post_rx();
  fixture.connect();
  const auto packet = fixture.guest.receive();
  REQUIRE(packet);
  CHECK(packet->payload == "banner");
}

TEST_CASE("a guest's close is answered with RST once its bytes are delivered (rule 39)") {
  Fixture fixture;
  auto& guest = fixture.guest;
  guest.post_rx();
  fixture.connect();
  SECTION("at once when the host end has taken all") {
    fixture.send("bye");
    guest.shutdown(guest_port, port, both);
    CHECK(guest.poll_op() == vsock::op_rst);
    CHECK(fixture.received() == "bye");
    CHECK(fixture.events() == "fill_ended receive_ended closed(clean) ");
  }
  SECTION("later when the host end is slow") {
    guest.on_loop([&] { fixture.endpoint->room = 2; });
    fixture.send("bye");
    guest.shutdown(guest_port, port, both);
    CHECK(guest.poll_op() == 0);
    CHECK(fixture.events() == "fill_ended ");
    guest.on_loop([&] {
      fixture.endpoint->room = 100;
      fixture.endpoint->stream->resume_receive();
    });
    CHECK(guest.poll_op() == vsock::op_rst);
    CHECK(fixture.received() == "bye");
    CHECK(fixture.events() == "fill_ended receive_ended closed(clean) ");
  }
  SECTION("and a guest that stops waiting for it loses nothing, and may use its port again") {
    guest.on_loop([&] { fixture.endpoint->room = 0; });
    fixture.send("bye");
    guest.shutdown(guest_port, port, both);
    guest.send(guest.header(vsock::op_rst, guest_port, port));
    CHECK(guest.poll_op() == 0);
    const auto first = std::exchange(fixture.endpoint, std::make_shared<RecordingEndpoint>());
    fixture.connect();
    fixture.send("second");
    CHECK(fixture.received() == "second");
    guest.on_loop([&] {
      first->room = 100;
      first->stream->resume_receive();
    });
    guest.settle();
    CHECK(first->received == "bye");
    CHECK(first->events == "fill_ended receive_ended closed(clean) ");
    CHECK(fixture.events().empty());
    CHECK(guest.poll_op() == 0);
  }
}

TEST_CASE("half-closes leave the other direction open (rules 39 and 40)") {
  Fixture fixture;
  auto& guest = fixture.guest;
  guest.post_rx();
  fixture.connect();
  SECTION("the guest's") {
    fixture.send("request");
    guest.shutdown(guest_port, port, vsock::shutdown_send);
    CHECK(fixture.events() == "receive_ended ");
    fixture.host_sends("answer", true);
    auto packet = guest.receive();
    REQUIRE(packet);
    CHECK(packet->payload == "answer");
    CHECK(guest.poll_op() == vsock::op_rst);
  }
  SECTION("the host's") {
    fixture.host_sends("request", true);
    auto packet = guest.receive();
    REQUIRE(packet);
    CHECK(packet->payload == "request");
    packet = guest.receive();
    REQUIRE(packet);
    CHECK(packet->header.op == vsock::op_shutdown);
    CHECK(packet->header.flags == vsock::shutdown_send);
    fixture.send("answer");
    CHECK(fixture.received() == "answer");
    CHECK(fixture.events().empty());
    guest.shutdown(guest_port, port, vsock::shutdown_send);
    CHECK(guest.poll_op() == vsock::op_rst);
  }
  CHECK(fixture.events().ends_with("closed(clean) "));
}

TEST_CASE("a RST of the guest cuts the host end off") {
  Fixture fixture;
  fixture.guest.post_rx();
  fixture.connect();
  fixture.guest.send(fixture.guest.header(vsock::op_rst, guest_port, port));
  CHECK(fixture.events() == "fill_ended closed(cut) ");
  CHECK(fixture.guest.poll_op() == 0);
}

TEST_CASE("a host end may leave, also from inside its own functions") {
  Fixture fixture;
  auto& guest = fixture.guest;
  guest.post_rx();
  fixture.connect();
  SECTION("from a handler of its own") {
    guest.on_loop([&] { std::exchange(fixture.endpoint->stream, nullptr)->close(); });
    CHECK(guest.poll_op() == vsock::op_rst);
  }
  SECTION("while it receives") {
    guest.on_loop([&] { fixture.endpoint->close_inside = true; });
    fixture.send("x");
    CHECK(guest.poll_op() == vsock::op_rst);
  }
  SECTION("in one direction: the guest's writers learn it, and what was on its way is dropped") {
    guest.on_loop([&] { fixture.endpoint->end_receive_inside = true; });
    fixture.send("x");
    const auto packet = guest.receive();
    REQUIRE(packet);
    CHECK(packet->header.op == vsock::op_shutdown);
    CHECK(packet->header.flags == vsock::shutdown_receive);
    fixture.send("y");
    CHECK(fixture.received() == "x");
    fixture.host_sends("still here", true);
    const auto data = guest.receive();
    REQUIRE(data);
    CHECK(data->payload == "still here");
    CHECK(guest.poll_op() == vsock::op_rst);
    CHECK(fixture.events() == "closed(clean) ");
    return;
  }
  CHECK(fixture.events().empty());
  fixture.send("x");
  CHECK(guest.poll_op() == vsock::op_rst);
}

TEST_CASE("the host dials a port of the guest (rule 42)") {
  Fixture fixture;
  auto& guest = fixture.guest;
  guest.post_rx();
  guest.on_loop([&] { guest.device.connect(guest_port, fixture.endpoint); });
  const auto request = guest.receive();
  REQUIRE(request);
  CHECK(request->header.op == vsock::op_request);
  CHECK(request->header.dst_port == guest_port);
  const std::uint32_t host_port = request->header.src_port;
  SECTION("and is accepted") {
    guest.send(guest.header(vsock::op_response, guest_port, host_port));
    fixture.host_sends("hi");
    const auto data = guest.receive();
    REQUIRE(data);
    CHECK(data->payload == "hi");
  }
  SECTION("and hangs up") {
    guest.on_loop([&] { guest.device.disconnect(host_port, guest_port); });
    CHECK(fixture.events().ends_with("closed(cut) "));
    CHECK(guest.poll_op() == vsock::op_rst);
    guest.on_loop([&] { guest.device.disconnect(host_port, guest_port); });  // it is gone
    CHECK(guest.poll_op() == 0);
  }
  SECTION("and is refused") {
    guest.send(guest.header(vsock::op_rst, guest_port, host_port));
    CHECK(fixture.events().ends_with("closed(cut) "));
    CHECK(guest.poll_op() == 0);
  }
  SECTION("and uses another port of its own the next time") {
    guest.on_loop([&] { guest.device.connect(guest_port, std::make_shared<RecordingEndpoint>()); });
    const auto second = guest.receive();
    REQUIRE(second);
    CHECK(second->header.src_port != host_port);
  }
}

TEST_CASE("a guest that does not answer in time is told that nobody waits any more (rule 42)") {
  Fixture fixture;
  auto& guest = fixture.guest;
  guest.post_rx();
  guest.on_loop([&] { guest.device.connect(guest_port, fixture.endpoint, std::chrono::milliseconds(1)); });
  const auto request = guest.receive();
  const auto reset = guest.receive();
  REQUIRE(reset);
  CHECK(request->header.op == vsock::op_request);
  CHECK(reset->header.op == vsock::op_rst);
  CHECK(fixture.events() == "closed(cut) ");
  guest.send(guest.header(vsock::op_response, guest_port, request->header.src_port));
  CHECK(guest.poll_op() == vsock::op_rst);
}

TEST_CASE("device reset ends every connection, and the device starts afresh (rule 18)") {
  Fixture fixture;
  auto& guest = fixture.guest;
  guest.post_rx();
  fixture.connect();
  fixture.send("x");
  guest.on_loop([&] { guest.device.reset(); });
  CHECK(fixture.events() == "closed(cut) ");
  guest.on_loop([&] { guest.device.on_notify(vsock::tx_queue); });
}

TEST_CASE("a host end that dialled before the guest's driver came waits for it, across the driver's first reset") {
  auto endpoint = std::make_shared<RecordingEndpoint>();
  EventLoop loop;
  GuestMemory memory(16 << 20);
  Vsock device(VsockGuest::cid, loop);
  InterruptLine interrupt;
  test::FakeDriver rx(memory, Gpa{0x10'0000}, 16);
  test::FakeDriver tx(memory, Gpa{0x80'0000}, 16);
  device.connect(guest_port, endpoint);
  device.reset();
  CHECK(endpoint->events.empty());
  rx.writable(4096).offer();
  Activation activation{.features = feature::version_1, .queues = {}, .interrupt = &interrupt, .needs_reset = {}};
  activation.queues.emplace_back(rx.activate());
  activation.queues.emplace_back(tx.activate());
  device.activate(std::move(activation));
  loop.post([&] { loop.stop(); });
  loop.run();
  const auto used = rx.take_used();
  REQUIRE(used);
  vsock::PacketHeader header;
  std::memcpy(&header, used->bytes.data(), sizeof header);
  CHECK(header.op == vsock::op_request);
}

TEST_CASE("a listener may refuse, fail and replace itself") {
  VsockGuest guest;
  guest.post_rx();
  guest.on_loop([&] {
    guest.device.listen(1, [](std::uint32_t) { return nullptr; });
    guest.device.listen(2, [](std::uint32_t) -> std::shared_ptr<VsockEndpoint> { throw std::runtime_error("no"); });
    guest.device.listen(3, [&](std::uint32_t) {
      guest.device.listen(3, [](std::uint32_t) { return nullptr; });
      return std::make_shared<RecordingEndpoint>();
    });
  });
  CHECK_FALSE(guest.connect(guest_port, 1));
  CHECK_FALSE(guest.connect(guest_port, 2));
  CHECK(guest.connect(guest_port, 3));
  CHECK_FALSE(guest.connect(guest_port + 1, 3));
}

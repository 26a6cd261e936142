#include "devices/virtio/vsock.h"

#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <string>

#include "tests/vsock_guest.h"

using namespace minivm;
using namespace minivm::virtio;
using minivm::test::RecordingEndpoint;
using minivm::test::VsockGuest;

namespace {

constexpr std::uint32_t port = 5000;
constexpr std::uint32_t guest_port = 1024;
constexpr std::uint32_t both = vsock::shutdown_receive | vsock::shutdown_send;

/// A guest, and a host that records what comes to `port`.
struct Fixture {
  explicit Fixture(std::uint64_t features = VsockGuest::all_features) : guest(features) {
    guest.on_loop([&] { guest.device.listen(port, [&](std::uint32_t) { return endpoint; }); });
  }

  void connect() { REQUIRE(guest.connect(guest_port, port)); }
  void send(std::string_view bytes) {
    guest.send(guest.header(vsock::op_rw, guest_port, port, static_cast<std::uint32_t>(bytes.size())), bytes);
  }
  /// What the endpoint noted, asked on the loop's thread.
  std::string events() {
    std::string result;
    guest.settle();
    guest.on_loop([&] { result = endpoint->events; });
    return result;
  }
  std::string received() {
    std::string result;
    guest.settle();
    guest.on_loop([&] { result = endpoint->received; });
    return result;
  }
  void host_sends(std::string_view bytes, bool end = false) {
    guest.on_loop([&] {
      endpoint->outgoing += bytes;
      endpoint->end_after_outgoing = end;
      endpoint->stream->resume_fill();
    });
  }

  VsockGuest guest;
  std::shared_ptr<RecordingEndpoint> endpoint = std::make_shared<RecordingEndpoint>();
};

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

TEST_CASE("header and payload may be cut anywhere, in either direction") {
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

TEST_CASE("buffers without room for payload are returned and not used") {
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

TEST_CASE("packets that belong to no connection are answered with RST, except a RST") {
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

TEST_CASE("a guest's close is answered with RST once its bytes are delivered") {
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

TEST_CASE("half-closes leave the other direction open") {
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

TEST_CASE("the host dials a port of the guest") {
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

TEST_CASE("a guest that does not answer in time is told that nobody waits any more") {
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

TEST_CASE("device reset ends every connection, and the device starts afresh") {
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
  Interrupt interrupt;
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

TEST_CASE("without receive buffers, replies are bounded and the guest's packets wait") {
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

TEST_CASE("connections are limited in number, and each slot comes back") {
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

TEST_CASE("a listener may refuse, fail, replace and remove itself") {
  VsockGuest guest;
  guest.post_rx();
  guest.on_loop([&] {
    guest.device.listen(1, [](std::uint32_t) { return nullptr; });
    guest.device.listen(2, [](std::uint32_t) -> std::shared_ptr<VsockEndpoint> { throw std::runtime_error("no"); });
    guest.device.listen(3, [&](std::uint32_t) {
      guest.device.unlisten(3);
      return std::make_shared<RecordingEndpoint>();
    });
  });
  CHECK_FALSE(guest.connect(guest_port, 1));
  CHECK_FALSE(guest.connect(guest_port, 2));
  CHECK(guest.connect(guest_port, 3));
  CHECK_FALSE(guest.connect(guest_port + 1, 3));
}

TEST_CASE("the guest's credit bounds what it is sent") {
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

TEST_CASE("many streams share the receive queue, and none keeps another or control packets waiting") {
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

TEST_CASE("a broken ring is reported once, and the other directions of the device stay safe") {
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

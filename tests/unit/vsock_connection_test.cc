#include "devices/virtio/vsock_connection.h"

#include <catch2/catch.hpp>
#include <string>

using namespace minivm::virtio;

namespace {

using Event = VsockConnection::Event;

vsock::PacketHeader packet(std::uint16_t op, std::uint32_t len = 0, std::uint32_t flags = 0) {
  return {.len = len, .type = vsock::type_stream, .op = op, .flags = flags, .buf_alloc = 65536, .fwd_cnt = 0};
}

vsock::PacketHeader credit(std::uint32_t buf_alloc, std::uint32_t fwd_cnt) {
  return {.type = vsock::type_stream, .op = vsock::op_credit_update, .buf_alloc = buf_alloc, .fwd_cnt = fwd_cnt};
}

VsockConnection accepted() {
  auto connection = VsockConnection::accept(packet(vsock::op_request));
  connection.next_control();
  return connection;
}

std::uint16_t next_op(VsockConnection& connection) {
  const auto control = connection.next_control();
  return control ? control->op : std::uint16_t{0};
}

void receive(VsockConnection& connection, std::string bytes) {
  REQUIRE(connection.on_packet(packet(vsock::op_rw, static_cast<std::uint32_t>(bytes.size()))) == Event::data);
  const iovec part{bytes.data(), bytes.size()};
  connection.keep(std::span(&part, 1));
}

std::string take_kept(VsockConnection& connection) {
  std::string bytes;
  for (const iovec& part : connection.kept()) bytes.append(static_cast<const char*>(part.iov_base), part.iov_len);
  connection.take(static_cast<std::uint32_t>(bytes.size()));
  return bytes;
}

}  // namespace

TEST_CASE("a request of the guest is answered with a response that carries our credit") {
  auto connection = VsockConnection::accept(packet(vsock::op_request));
  CHECK(connection.established());
  CHECK(connection.send_credit() == 65536);
  REQUIRE(next_op(connection) == vsock::op_response);
  vsock::PacketHeader header;
  connection.stamp(header);
  CHECK(header.buf_alloc == VsockConnection::buf_alloc);
  CHECK(header.fwd_cnt == 0);
  CHECK_FALSE(connection.control_due());
}

TEST_CASE("a dialled connection lives from the response on") {
  auto connection = VsockConnection::dial();
  CHECK(connection.send_credit() == 0);
  SECTION("and a response before the request was sent is made up") {
    CHECK(connection.on_packet(packet(vsock::op_response)) == Event::violation);
  }
  SECTION("a response establishes it") {
    CHECK(next_op(connection) == vsock::op_request);
    CHECK(connection.on_packet(packet(vsock::op_response)) == Event::established);
    CHECK(connection.send_credit() == 65536);
    CHECK(connection.on_packet(packet(vsock::op_response)) == Event::violation);
  }
  SECTION("data instead of a response breaks the rules") {
    CHECK(next_op(connection) == vsock::op_request);
    CHECK(connection.on_packet(packet(vsock::op_rw, 1)) == Event::violation);
  }
  SECTION("RST refuses it") {
    CHECK(next_op(connection) == vsock::op_request);
    CHECK(connection.on_packet(packet(vsock::op_rst)) == Event::reset);
    CHECK(connection.finished());
    CHECK_FALSE(connection.clean());
    connection.reset();
    CHECK_FALSE(connection.control_due());
  }
  SECTION("given up before the request went out, the guest need not hear of it") {
    connection.reset();
    CHECK(connection.gone());
    CHECK_FALSE(connection.control_due());
  }
}

TEST_CASE("the guest's room is what it announced less what is on its way, modulo 2^32 (rule 36, CVE-2026-23069)") {
  auto connection = accepted();
  connection.sent(65536);
  CHECK(connection.send_credit() == 0);
  CHECK(connection.on_packet(credit(65536, 1000)) == Event::noted);
  CHECK(connection.send_credit() == 1000);
  SECTION("a buffer that shrinks below what is on its way leaves none") {
    connection.on_packet(credit(100, 1000));
    CHECK(connection.send_credit() == 0);
    connection.on_packet(credit(100, 65500));
    CHECK(connection.send_credit() == 64);
  }
  SECTION("a guest that claims to have read more than was sent gets nothing") {
    connection.on_packet(credit(65536, 70000));
    CHECK(connection.send_credit() == 0);
  }
  SECTION("counters wrap around") {
    std::uint32_t sent = 65536;
    for (int i = 0; i < 70000; ++i) {
      connection.on_packet(credit(65536, sent));
      REQUIRE(connection.send_credit() == 65536);
      connection.sent(65536);
      sent += 65536;
    }
    connection.on_packet(credit(65536, sent - 6));
    CHECK(connection.send_credit() == 65530);
  }
}

TEST_CASE("kept bytes come out in order, across the end of the buffer and the wrap of the counters") {
  auto connection = accepted();
  const std::uint32_t step = VsockConnection::buf_alloc - 7;
  // 2^32 / 256 KiB turns and a few more.
  for (std::uint32_t i = 0; i < 16400; ++i) {
    REQUIRE(connection.on_packet(packet(vsock::op_rw, step)) == Event::data);
    connection.take(step);
    if (i % 4096 != 0 && i < 16380) continue;
    receive(connection, "hello ");
    receive(connection, "world");
    CHECK(connection.backlog() == 11);
    CHECK(take_kept(connection) == "hello world");
  }
}

TEST_CASE("a guest that sends more than it was given room for breaks the rules (rule 36)") {
  auto connection = accepted();
  receive(connection, std::string(VsockConnection::buf_alloc, 'x'));
  CHECK(connection.on_packet(packet(vsock::op_rw, 0)) == Event::data);
  CHECK(connection.on_packet(packet(vsock::op_rw, 1)) == Event::violation);
  connection.reset();
  CHECK(next_op(connection) == vsock::op_rst);
  CHECK(connection.gone());
}

TEST_CASE("a length near 2^32 is no way around the credit") {
  auto connection = accepted();
  receive(connection, "x");
  CHECK(connection.on_packet(packet(vsock::op_rw, 0xFFFF'FFFF)) == Event::violation);
}

TEST_CASE("the guest hears of new room when it sees less than half, and not for every byte (rule 37)") {
  auto connection = accepted();
  const std::uint32_t quarter = VsockConnection::buf_alloc / 4;
  receive(connection, std::string(quarter, 'x'));
  take_kept(connection);
  CHECK_FALSE(connection.control_due());
  receive(connection, std::string(3 * quarter, 'x'));
  int updates = 0;
  for (std::uint32_t taken = 0; taken < 3 * quarter; taken += 64) {
    connection.take(64);
    if (const auto control = connection.next_control()) {
      CHECK(control->op == vsock::op_credit_update);
      vsock::PacketHeader header;
      connection.stamp(header);
      ++updates;
    }
  }
  CHECK(updates >= 1);
  CHECK(updates <= 4);
}

TEST_CASE("any packet that carries the credit saves the update (rule 36)") {
  auto connection = accepted();
  receive(connection, std::string(VsockConnection::buf_alloc, 'x'));
  take_kept(connection);
  REQUIRE(connection.control_due());
  vsock::PacketHeader header;
  connection.stamp(header);
  CHECK(header.fwd_cnt == VsockConnection::buf_alloc);
  CHECK_FALSE(connection.control_due());
}

TEST_CASE("a credit request is answered at once (rule 37)") {
  auto connection = accepted();
  CHECK(connection.on_packet(packet(vsock::op_credit_request)) == Event::noted);
  CHECK(next_op(connection) == vsock::op_credit_update);
}

TEST_CASE("half-closes add up to the end, in either order (rule 39)") {
  auto connection = accepted();
  SECTION("host first") {
    connection.end_send();
    const auto control = connection.next_control();
    REQUIRE(control);
    CHECK(control->op == vsock::op_shutdown);
    CHECK(control->flags == vsock::shutdown_send);
    CHECK_FALSE(connection.finished());
    receive(connection, "late");
    connection.on_packet(packet(vsock::op_shutdown, 0, vsock::shutdown_send));
    CHECK_FALSE(connection.received_all());
    CHECK_FALSE(connection.finished());
    CHECK(take_kept(connection) == "late");
    CHECK(connection.received_all());
    CHECK(connection.finished());
  }
  SECTION("guest first, with its two flags one by one") {
    connection.on_packet(packet(vsock::op_shutdown, 0, vsock::shutdown_send));
    CHECK(connection.received_all());
    CHECK_FALSE(connection.finished());
    CHECK(connection.send_credit() != 0);
    connection.on_packet(packet(vsock::op_shutdown, 0, vsock::shutdown_receive));
    CHECK(connection.guest_stopped_reading());
    CHECK(connection.send_credit() == 0);
    CHECK(connection.finished());
  }
  SECTION("guest with both flags at once, as close(2) does") {
    connection.on_packet(packet(vsock::op_shutdown, 0, vsock::shutdown_receive | vsock::shutdown_send));
    CHECK(connection.finished());
  }
  CHECK(connection.clean());
  connection.reset();
  CHECK(next_op(connection) == vsock::op_rst);
}

TEST_CASE("data after the guest's own end of stream breaks the rules") {
  auto connection = accepted();
  connection.on_packet(packet(vsock::op_shutdown, 0, vsock::shutdown_send));
  CHECK(connection.on_packet(packet(vsock::op_rw, 1)) == Event::violation);
}

TEST_CASE("a host end that takes no more says so, and what still comes is dropped") {
  auto connection = accepted();
  receive(connection, "abc");
  connection.end_receive();
  CHECK(connection.backlog() == 0);
  const auto control = connection.next_control();
  REQUIRE(control);
  CHECK(control->flags == vsock::shutdown_receive);
  CHECK(connection.on_packet(packet(vsock::op_rw, 10)) == Event::data);
  connection.take(10);
  CHECK_FALSE(connection.finished());
  connection.end_send();
  CHECK(connection.finished());
}

TEST_CASE("after the guest's RST only what it had sent before is left") {
  auto connection = accepted();
  receive(connection, "abc");
  SECTION("cut off") {
    CHECK(connection.on_packet(packet(vsock::op_rst)) == Event::reset);
    CHECK_FALSE(connection.finished());
    CHECK(take_kept(connection) == "abc");
    CHECK(connection.finished());
    CHECK_FALSE(connection.clean());
  }
  SECTION("after it had closed") {
    connection.on_packet(packet(vsock::op_shutdown, 0, vsock::shutdown_receive | vsock::shutdown_send));
    CHECK(connection.on_packet(packet(vsock::op_rst)) == Event::reset);
    CHECK(take_kept(connection) == "abc");
    CHECK(connection.clean());
  }
  connection.reset();
  CHECK_FALSE(connection.control_due());
}

TEST_CASE("while our RST is on its way, packets mean nothing but the guest's RST (rule 42)") {
  auto connection = accepted();
  connection.reset();
  CHECK(connection.on_packet(packet(vsock::op_rw, 5)) == Event::noted);
  CHECK(connection.on_packet(packet(vsock::op_request)) == Event::noted);
  CHECK(connection.backlog() == 0);
  CHECK(connection.on_packet(packet(vsock::op_rst)) == Event::reset);
  CHECK_FALSE(connection.control_due());
}

TEST_CASE("operations that no one knows, and requests on a live connection, break the rules") {
  for (const int op : {0, 1, 2, 8, 65535}) {
    auto connection = accepted();
    CHECK(connection.on_packet(packet(static_cast<std::uint16_t>(op))) == Event::violation);
  }
}

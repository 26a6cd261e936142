#include "devices/virtio/net_rx.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <optional>
#include <thread>

#include "tests/net_fixture.h"

using namespace minivm;
using namespace minivm::test;

TEST_CASE_METHOD(NetFixture, "a received frame counts its buffers, one without mergeable buffers (rule 29)") {
  start(plain);
  rx().writable(12).writable(2000).offer();
  arrives(frame_of(300));
  receive();
  const auto used = rx().take_used().value();
  CHECK(used.written == 300);
  CHECK(num_buffers(used.bytes) == 1);
  CHECK(std::equal(used.bytes.begin() + 12, used.bytes.begin() + 300, frame_of(300).begin() + 12));
  CHECK(interrupt.status() == Interrupt::used_buffer);
}

TEST_CASE_METHOD(NetFixture,
                 "a frame fills mergeable buffers one after the other, and they show up together (rule 29)") {
  start(mergeable);
  for (int i = 0; i < 20; ++i) rx().writable(100).offer();
  const Bytes frame = frame_of(250);
  arrives(frame);
  receive();
  CHECK(rx().used_idx() == 3);
  Bytes received;
  const auto first = rx().take_used().value();
  CHECK(first.written == 100);
  CHECK(num_buffers(first.bytes) == 3);
  received = first.bytes;
  for (const std::uint32_t written : {100U, 50U}) {
    const auto used = rx().take_used().value();
    CHECK(used.written == written);
    received.insert(received.end(), used.bytes.begin(), used.bytes.begin() + written);
  }
  CHECK(without_header(received) == without_header(frame));
  CHECK_FALSE(rx().take_used());
}

TEST_CASE_METHOD(NetFixture, "a count of buffers that the driver cut in two (rule 29)") {
  start(mergeable);
  for (int i = 0; i < 20; ++i) rx().writable(11).writable(1).writable(100).offer();
  arrives(frame_of(200));
  receive();
  CHECK(num_buffers(rx().take_used().value().bytes) == 2);
}

TEST_CASE_METHOD(NetFixture,
                 "without mergeable buffers a frame too long is dropped, and the chain serves the next (rule 30)") {
  start(plain);
  const auto head = rx().writable(200).offer();
  arrives(frame_of(201));
  arrives(frame_of(200, 2));
  receive();
  const auto used = rx().take_used().value();
  CHECK(used.head == head);
  CHECK(used.written == 200);
  CHECK(without_header(used.bytes) == without_header(frame_of(200, 2)));
  CHECK_FALSE(rx().take_used());
}

TEST_CASE_METHOD(NetFixture, "a frame waits until the largest one would fit, and nothing is lost (rules 30 and 33)") {
  start(mergeable);
  rx().writable(1000).offer();
  arrives(frame_of(1400));
  receive();
  CHECK_FALSE(rx().take_used());
  rx().writable(1000).offer();
  CHECK(rx().should_notify());
  receive();
  CHECK(num_buffers(rx().take_used().value().bytes) == 2);
  CHECK(rx().take_used().value().written == 400);
}

TEST_CASE_METHOD(NetFixture, "a ring that holds no more is enough, however small its buffers (rule 30)") {
  start(mergeable | net::feature_guest_csum | net::feature_guest_tso4);
  for (int i = 0; i < Net::queue_size; ++i) rx().writable(20).offer();
  arrives(frame_of(60));
  arrives(frame_of(Net::queue_size * 20));  // too long by now
  receive();
  CHECK(rx().used_idx() == 3);
  CHECK_FALSE(reset_needed);
}

TEST_CASE_METHOD(NetFixture, "a chain with too many parts is given back to the ring until there is room (rule 30)") {
  start(mergeable | net::feature_guest_csum | net::feature_guest_tso4);
  const auto offer_parts = [&](int count) {
    for (int i = 0; i < count; ++i) rx().writable(1);
    return rx().offer_indirect();
  };
  const auto first = offer_parts(200);
  const auto second = offer_parts(1000);
  arrives(frame_of(150));
  receive();
  CHECK(rx().take_used().value().head == first);
  arrives(frame_of(950));
  receive();
  const auto used = rx().take_used().value();
  CHECK(used.head == second);
  CHECK(used.written == 950);
}

TEST_CASE_METHOD(NetFixture, "buffers that cannot hold a header go back unused (rule 12)") {
  start(GENERATE(plain, mergeable));
  rx().writable(11).offer();
  rx().readable(std::uint64_t{0}).writable(2000).offer();
  for (int i = 0; i < 1024; ++i) rx().writable(16);
  rx().offer_indirect();
  rx().writable(2000).offer();
  arrives(frame_of(100));
  receive();
  for (int i = 0; i < 3; ++i) CHECK(rx().take_used().value().written == 0);
  CHECK(rx().take_used().value().written == 100);
}

TEST_CASE_METHOD(NetFixture, "a driver without buffers stops the frames, and its refill goes on with them (rule 33)") {
  start(plain);
  arrives(frame_of(100));
  std::thread thread([this] { loop.run(); });
  // The loop finds the frame and no buffers. The next frames come when nobody listens.
  loop.run_sync([this] { receive(); });
  arrives(frame_of(101));
  loop.run_sync([this] {
    CHECK_FALSE(rx().take_used());
    rx().writable(2000).offer();
    CHECK(rx().should_notify());
    rx().writable(2000).offer();
    rx().writable(2000).offer();
    receive();
    CHECK(rx().take_used().value().written == 100);
    CHECK(rx().take_used().value().written == 101);
  });
  // From now on by itself, without a kick.
  arrives(frame_of(102));
  std::optional<FakeDriver::Used> used;
  while (!used) loop.run_sync([&] { used = rx().take_used(); });
  CHECK(used->written == 102);
  loop.stop();
  thread.join();
}

#include "devices/virtio/net.h"

#include <poll.h>

#include <catch2/catch.hpp>
#include <thread>
#include <utility>

#include "tests/net_fixture.h"

using namespace minivm;
using namespace minivm::test;

TEST_CASE_METHOD(NetFixture, "the configuration space tells address, link, pairs and MTU") {
  build(2);
  CHECK(config().mac == test_mac);
  CHECK(config().status == net::status_link_up);
  CHECK(config().max_virtqueue_pairs == 2);
  CHECK(config().mtu == 1500);
  CHECK(device->type() == 1);
  CHECK(device->queue_sizes().size() == 5);
}

TEST_CASE_METHOD(NetFixture, "what is offered is what the backend can do") {
  SECTION("all of it") {
    build(2);
    CHECK((device->features() & all_offloads) == all_offloads);
    CHECK((device->features() & net::feature_mq) != 0);
    CHECK((device->features() & net::feature_ctrl_guest_offloads) != 0);
  }
  SECTION("nothing") {
    build(1, 0);
    CHECK((device->features() & all_offloads) == 0);
    CHECK((device->features() & (net::feature_mq | net::feature_ctrl_vq | net::feature_ctrl_guest_offloads)) == 0);
  }
}

TEST_CASE_METHOD(NetFixture, "a frame leaves as it is, wherever the driver cut it") {
  start(plain);
  const Bytes frame = frame_of(300);
  SECTION("in one piece") { tx().readable(frame).offer(); }
  SECTION("header apart") { tx().readable(std::span(frame).first(12)).readable(std::span(frame).subspan(12)).offer(); }
  SECTION("within the header") {
    tx().readable(std::span(frame).first(5))
        .readable(std::span(frame).subspan(5, 20))
        .readable(std::span(frame).subspan(25))
        .offer();
  }
  SECTION("in an indirect table") {
    tx().readable(std::span(frame).first(12)).readable(std::span(frame).subspan(12)).offer_indirect();
  }
  CHECK(transmit().written == 0);
  CHECK(departed() == frame);
  CHECK(interrupt.status() == Interrupt::used_buffer);
}

TEST_CASE_METHOD(NetFixture, "a frame that makes no sense is dropped, and its chain goes back (rules 12 and 32)") {
  start(plain | net::feature_csum | net::feature_host_tso4);
  SECTION("no header") { tx().readable(frame_of(11)).offer(); }
  SECTION("nothing but a header") { tx().readable(frame_of(12)).offer(); }
  SECTION("less than an Ethernet header") { tx().readable(frame_of(25)).offer(); }
  SECTION("no readable part") { tx().writable(100).offer(); }
  SECTION("too long") { tx().readable(frame_of(12 + 65563)).offer(); }
  SECTION("a checksum outside") {
    tx().readable(net::Header{.flags = 1, .csum_start = 90, .csum_offset = 9}).readable(frame_of(100)).offer();
  }
  SECTION("segmentation that was not negotiated") {
    tx().readable(net::Header{.flags = 1, .gso_type = net::gso_tcpv6, .gso_size = 1000})
        .readable(frame_of(100))
        .offer();
  }
  SECTION("more parts than one system call takes") {
    tx().readable(frame_of(13));
    for (int i = 0; i < 1023; ++i) tx().readable(std::byte{1});
    tx().offer_indirect();
  }
  CHECK(transmit().written == 0);
  CHECK(departed().empty());
  tx().readable(frame_of(60)).offer();
  transmit();
  CHECK(departed() == frame_of(60));
  CHECK_FALSE(reset_needed);
}

TEST_CASE_METHOD(NetFixture, "one wake moves a bounded number of frames, with one interrupt (rule 11)") {
  start(mergeable);
  SECTION("out") {
    for (int i = 0; i < Net::max_batch + 6; ++i) tx().readable(frame_of(60)).offer();
    device->on_notify(1);
    CHECK(tx().used_idx() <= Net::max_batch);
    CHECK((calls_again == std::vector<std::uint16_t>{1} || tx().used_idx() < Net::max_batch));
  }
  SECTION("in, where the driver has nothing but useless buffers") {
    for (int i = 0; i < 200; ++i) rx().writable(4).offer();
    receive();
    CHECK(rx().used_idx() == 200);
  }
  CHECK(interrupt.status() == Interrupt::used_buffer);
}

TEST_CASE_METHOD(NetFixture, "a cable that takes no more keeps the frame in the ring until it does") {
  start(plain);
  int offered = 0;
  for (; offered < 250; ++offered) tx().readable(frame_of(100, offered)).offer();
  std::thread thread([this] { loop.run(); });
  loop.run_sync([this] { device->on_notify(1); });
  CHECK(tx().used_idx() < 250);  // a datagram socket queues a few
  for (int i = 0; i < offered;) {
    pollfd ready{.fd = cables[0].get(), .events = POLLIN, .revents = 0};
    REQUIRE(::poll(&ready, 1, 10'000) == 1);
    for (Bytes frame = departed(); !frame.empty(); frame = departed()) CHECK(frame == frame_of(100, i++));
    loop.run_sync([this] {
      for (const std::uint16_t queue : std::exchange(calls_again, {})) device->on_notify(queue);
    });
  }
  loop.stop();
  thread.join();
  CHECK(tx().used_idx() == 250);
}

TEST_CASE_METHOD(NetFixture, "a broken ring asks for a reset and leaves the others alone") {
  start(plain);
  const std::uint16_t broken = GENERATE(std::uint16_t{0}, std::uint16_t{1});
  drivers[broken].set_available_idx(Net::queue_size + 1);
  device->on_notify(broken);
  CHECK(reset_needed);
  device->on_notify(broken);
  if (broken == 0) {
    tx().readable(frame_of(60)).offer();
    transmit();
    CHECK(departed() == frame_of(60));
  } else {
    rx().writable(100).offer();
    arrives(frame_of(60));
    receive();
    CHECK(rx().take_used().value().written == 60);
  }
}

TEST_CASE_METHOD(NetFixture, "a reset in the middle forgets buffers and frames, and the device starts anew (rule 18)") {
  start(mergeable);
  for (int i = 0; i < 3; ++i) rx().writable(1000).offer();
  receive();  // now it holds some of them
  tx().readable(frame_of(60)).offer();
  device->reset();
  device->on_notify(0);
  device->on_notify(1);
  CHECK(departed().empty());
  arrives(frame_of(70));
  device->on_notify(0);
  CHECK_FALSE(rx().take_used());

  drivers.clear();
  for (std::uint64_t i = 0; i < 3; ++i) {
    memory.slice(Gpa{0x100000 + i * FakeDriver::default_span}, 16384).value().front() = std::byte{0};
    drivers.emplace_back(memory, Gpa{0x2000000 + i * FakeDriver::default_span}, Net::queue_size);
  }
  start(plain);
  rx().writable(1000).offer();
  receive();
  CHECK(rx().take_used().value().written == 70);
}

TEST_CASE_METHOD(NetFixture,
                 "kicks before activation and of queues that were not enabled are harmless (rules 16 and 17)") {
  build(2);
  for (std::uint16_t queue = 0; queue < 5; ++queue) device->on_notify(queue);
  Activation activation{
      .features = plain, .interrupt = &interrupt, .needs_reset = [] {}, .call_again = [](std::uint16_t) {}};
  activation.queues.resize(5);
  device->activate(std::move(activation));
  for (std::uint16_t queue = 0; queue < 5; ++queue) device->on_notify(queue);
  arrives(frame_of(60));
  device->on_notify(0);
  device->reset();
}

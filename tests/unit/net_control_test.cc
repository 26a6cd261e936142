#include <catch2/catch.hpp>
#include <utility>

#include "tests/net_fixture.h"

using namespace minivm;
using namespace minivm::test;

namespace {

constexpr std::byte ok{net::control_ok};
constexpr std::byte error{net::control_error};

}  // namespace

TEST_CASE_METHOD(NetFixture,
                 "the control queue changes the guest's offloads, within what was negotiated (rules 14 and 31)") {
  start(mergeable | net::feature_ctrl_vq | net::feature_ctrl_guest_offloads | net::feature_guest_csum |
        net::feature_guest_tso4);
  const auto set = [&](std::uint64_t offloads) {
    return command(net::class_guest_offloads, net::guest_offloads_set, offloads, 8);
  };
  CHECK(set(0) == ok);
  CHECK(set(net::feature_guest_csum) == ok);
  CHECK(set(net::feature_guest_csum | net::feature_guest_tso4) == ok);
  CHECK(set(net::feature_guest_tso4) == error);
  CHECK(set(net::feature_guest_csum | net::feature_guest_tso6) == error);
  CHECK(set(net::feature_csum) == error);
  CHECK(set(~0ULL) == error);
  CHECK(command(net::class_guest_offloads, net::guest_offloads_set, 0, 7) == error);
  CHECK(command(net::class_guest_offloads, 1, 0, 8) == error);
  CHECK(command(net::class_mq, net::mq_vq_pairs_set, 1, 2) == error);
  CHECK(command(99, 0, 0, 8) == error);
}

TEST_CASE_METHOD(NetFixture, "a command without room for an answer, or without a command, goes back (rules 9 and 12)") {
  start(plain | net::feature_ctrl_vq);
  control().readable(net::ControlHeader{}).offer();
  control().writable(1).offer();
  control().readable(std::byte{4}).writable(4).offer();
  device->on_notify(2);
  CHECK(control().take_used().value().written == 0);
  for (int i = 0; i < 2; ++i) {
    const auto used = control().take_used().value();
    CHECK(used.written == 1);
    CHECK(used.bytes.at(0) == error);
  }
}

TEST_CASE_METHOD(NetFixture, "pairs are used when the driver says so, and each has its own cable") {
  build(2);
  start(plain | net::feature_ctrl_vq | net::feature_mq);
  tx(1).readable(frame_of(60)).offer();
  device->on_notify(3);
  CHECK(departed(1).empty());
  CHECK(command(net::class_mq, net::mq_vq_pairs_set, 0, 2) == error);
  CHECK(command(net::class_mq, net::mq_vq_pairs_set, 3, 2) == error);
  CHECK(command(net::class_mq, net::mq_vq_pairs_set, 2, 1) == error);
  CHECK(command(net::class_mq, net::mq_vq_pairs_set, 2, 2) == ok);
  for (const std::uint16_t queue : std::exchange(calls_again, {})) device->on_notify(queue);
  CHECK(departed(1) == frame_of(60));
  rx(1).writable(1000).offer();
  arrives(frame_of(80), 1);
  device->on_notify(2);
  CHECK(rx(1).take_used().value().written == 80);
  CHECK(command(net::class_mq, net::mq_vq_pairs_set, 1, 2) == ok);
}

TEST_CASE_METHOD(NetFixture, "without MQ the control queue follows the first pair (VirtIO 1.2, 5.1.2)") {
  build(2);
  start(plain | net::feature_ctrl_vq | net::feature_ctrl_guest_offloads | net::feature_guest_csum);
  drivers[2]
      .readable(net::ControlHeader{net::class_guest_offloads, net::guest_offloads_set})
      .readable(std::uint64_t{0})
      .writable(1)
      .offer();
  device->on_notify(2);
  CHECK(drivers[2].take_used().value().bytes.at(0) == ok);
}

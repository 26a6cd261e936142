#include "devices/virtio/net.h"

#include <poll.h>
#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <numeric>
#include <thread>

#include "devices/virtio/net_header.h"
#include "devices/virtio/tap.h"
#include "tests/fake_driver.h"

using namespace minivm;
using namespace minivm::virtio;
using minivm::test::FakeDriver;

namespace {

using Bytes = std::vector<std::byte>;

constexpr net::MacAddress mac{0x02, 1, 2, 3, 4, 5};
constexpr std::uint64_t all_offloads = net::feature_csum | net::feature_host_tso4 | net::feature_host_tso6 |
                                       net::feature_host_ecn | net::feature_guest_csum | net::feature_guest_tso4 |
                                       net::feature_guest_tso6 | net::feature_guest_ecn;
constexpr std::uint64_t plain = feature::version_1 | feature::indirect_desc | feature::event_idx;
constexpr std::uint64_t mergeable = plain | net::feature_mrg_rxbuf;
constexpr std::size_t header_size = sizeof(net::Header);

/// A frame with its header of zeros: `size` counts both.
Bytes frame_of(std::size_t size, int seed = 1) {
  Bytes frame(size);
  for (std::size_t i = header_size; i < size; ++i)
    frame[i] = static_cast<std::byte>(i * 7 + static_cast<std::size_t>(seed));
  return frame;
}

std::uint16_t num_buffers(const Bytes& bytes) {
  std::uint16_t count = 0;
  std::memcpy(&count, bytes.data() + 10, sizeof count);
  return count;
}

Bytes without_header(const Bytes& bytes) { return {bytes.begin() + header_size, bytes.end()}; }

// A network device whose cable ends in datagram sockets, one for each pair, that stand for a TAP interface's queues.
struct Fixture {
  GuestMemory memory{64 << 20};
  EventLoop loop;
  InterruptLine interrupt;
  std::vector<UniqueFd> cables;
  std::vector<FakeDriver> drivers;
  std::unique_ptr<Net> device;
  bool reset_needed = false;
  std::vector<std::uint16_t> calls_again;

  void build(std::uint16_t pairs = 1, std::uint64_t offloads = all_offloads) {
    TapQueues queues{.name = "cable", .offloads = offloads};
    for (std::uint16_t i = 0; i < pairs; ++i) {
      std::array<int, 2> ends{};
      REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()) == 0);
      queues.files.emplace_back(ends[0]);
      cables.emplace_back(ends[1]);
    }
    device = std::make_unique<Net>(std::make_unique<Tap>(std::move(queues), loop), mac);
    for (std::uint64_t i = 0; i < device->queue_sizes().size(); ++i) {
      drivers.emplace_back(memory, Gpa{0x100000 + i * FakeDriver::default_span}, Net::queue_size);
    }
  }
  void start(std::uint64_t features) {
    if (!device) build();
    Activation activation{.features = features,
                          .interrupt = &interrupt,
                          .needs_reset = [this] { reset_needed = true; },
                          .call_again = [this](std::uint16_t queue) { calls_again.push_back(queue); }};
    for (FakeDriver& driver : drivers) activation.queues.emplace_back(driver.activate(features));
    device->activate(std::move(activation));
  }
  FakeDriver& rx(std::size_t pair = 0) { return drivers[2 * pair]; }
  FakeDriver& tx(std::size_t pair = 0) { return drivers[2 * pair + 1]; }
  FakeDriver& control() { return drivers.back(); }

  void arrives(const Bytes& frame, std::size_t pair = 0) {
    REQUIRE(::send(cables[pair].get(), frame.data(), frame.size(), 0) == static_cast<ssize_t>(frame.size()));
  }
  /// The next frame that left; empty when there is none.
  Bytes departed(std::size_t pair = 0) {
    Bytes frame(70'000);
    const ssize_t size = ::recv(cables[pair].get(), frame.data(), frame.size(), 0);
    frame.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return frame;
  }
  void receive() { device->on_notify(0); }
  /// The used length of a frame that the driver sends.
  FakeDriver::Used transmit() {
    device->on_notify(1);
    return tx().take_used().value();
  }
  std::byte command(std::uint8_t command_class, std::uint8_t code, std::uint64_t data, std::size_t data_size) {
    control().readable(net::ControlHeader{command_class, code});
    control().readable(std::as_bytes(std::span(&data, 1)).first(data_size)).writable(1).offer();
    device->on_notify(static_cast<std::uint16_t>(drivers.size() - 1));
    const auto used = control().take_used().value();
    CHECK(used.written == 1);
    return used.bytes.at(0);
  }
  template <typename Config = net::Config>
  Config config() const {
    Config config;
    device->read_config(0, std::as_writable_bytes(std::span(&config, 1)));
    return config;
  }
};

constexpr std::byte ok{net::control_ok};
constexpr std::byte error{net::control_error};

}  // namespace

TEST_CASE_METHOD(Fixture, "the configuration space tells address, link, pairs and MTU") {
  build(2);
  CHECK(config().mac == mac);
  CHECK(config().status == net::status_link_up);
  CHECK(config().max_virtqueue_pairs == 2);
  CHECK(config().mtu == 1500);
  CHECK(device->type() == 1);
  CHECK(device->queue_sizes().size() == 5);
}

TEST_CASE_METHOD(Fixture, "what is offered is what the backend can do") {
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

TEST_CASE_METHOD(Fixture, "a frame leaves as it is, wherever the driver cut it") {
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

TEST_CASE_METHOD(Fixture, "a frame that makes no sense is dropped, and its chain goes back (rules 12 and 32)") {
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

TEST_CASE("a header is judged against what was negotiated (rules 14 and 32)") {
  constexpr std::uint64_t features = net::feature_csum | net::feature_host_tso4 | net::feature_host_ecn;
  const net::Header csum{.flags = net::header_needs_csum, .csum_start = 34, .csum_offset = 16};
  const net::Header tso{.flags = net::header_needs_csum,
                        .gso_type = net::gso_tcpv4,
                        .hdr_len = 54,
                        .gso_size = 1448,
                        .csum_start = 34,
                        .csum_offset = 16};
  CHECK(judge_header({}, 14, 0));
  CHECK_FALSE(judge_header({}, 13, 0));
  CHECK(judge_header({}, net::max_frame_size, 0));
  CHECK_FALSE(judge_header({}, net::max_frame_size + 1, 0));

  CHECK(judge_header(csum, 52, features)->csum_start == 34);
  CHECK_FALSE(judge_header(csum, 51, features));
  CHECK_FALSE(judge_header(csum, 100, 0));
  CHECK_FALSE(judge_header({.flags = 1, .csum_start = 0xFFFF, .csum_offset = 0xFFFF}, 1000, features));

  CHECK(judge_header(tso, 4000, features)->gso_size == 1448);
  CHECK_FALSE(judge_header(tso, 4000, net::feature_csum));
  auto changed = [&](auto change) {
    net::Header header = tso;
    change(header);
    return judge_header(header, 4000, features);
  };
  CHECK_FALSE(changed([](auto& header) { header.flags = 0; }));
  CHECK_FALSE(changed([](auto& header) { header.gso_size = 0; }));
  CHECK_FALSE(changed([](auto& header) { header.gso_type = net::gso_tcpv6; }));
  CHECK_FALSE(changed([](auto& header) { header.gso_type = net::gso_udp_l4; }));
  CHECK_FALSE(changed([](auto& header) { header.gso_type = 3; }));
  CHECK_FALSE(changed([](auto& header) { header.gso_type = 0x7F; }));
  CHECK(changed([](auto& header) { header.gso_type |= net::gso_ecn; }));
  CHECK(changed([](auto& header) { header.hdr_len = 0xFFFF; })->hdr_len == 4000);
}

TEST_CASE("what only the device may say is cleared (rule 32)") {
  const auto judged = judge_header({.flags = 0xFE,
                                    .gso_type = net::gso_ecn,
                                    .hdr_len = 9,
                                    .gso_size = 9,
                                    .csum_start = 9,
                                    .csum_offset = 9,
                                    .num_buffers = 9},
                                   100, ~0ULL);
  REQUIRE(judged);
  CHECK(judged->flags == 0);
  CHECK(judged->gso_type == 0);
  CHECK(judged->hdr_len == 0);
  CHECK(judged->gso_size == 0);
  CHECK(judged->csum_start == 0);
  CHECK(judged->num_buffers == 0);
}

TEST_CASE_METHOD(Fixture, "a received frame counts its buffers, one without mergeable buffers (rule 29)") {
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

TEST_CASE_METHOD(Fixture, "a frame fills mergeable buffers one after the other, and they show up together (rule 29)") {
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

TEST_CASE_METHOD(Fixture, "a count of buffers that the driver cut in two (rule 29)") {
  start(mergeable);
  for (int i = 0; i < 20; ++i) rx().writable(11).writable(1).writable(100).offer();
  arrives(frame_of(200));
  receive();
  CHECK(num_buffers(rx().take_used().value().bytes) == 2);
}

TEST_CASE_METHOD(Fixture,
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

TEST_CASE_METHOD(Fixture, "a frame waits until the largest one would fit, and nothing is lost (rules 30 and 33)") {
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

TEST_CASE_METHOD(Fixture, "a ring that holds no more is enough, however small its buffers (rule 30)") {
  start(mergeable | net::feature_guest_csum | net::feature_guest_tso4);
  for (int i = 0; i < Net::queue_size; ++i) rx().writable(20).offer();
  arrives(frame_of(60));
  arrives(frame_of(Net::queue_size * 20));  // too long by now
  receive();
  CHECK(rx().used_idx() == 3);
  CHECK_FALSE(reset_needed);
}

TEST_CASE_METHOD(Fixture, "a chain with too many parts is given back to the ring until there is room (rule 30)") {
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

TEST_CASE_METHOD(Fixture, "buffers that cannot hold a header go back unused (rule 12)") {
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

TEST_CASE_METHOD(Fixture, "a driver without buffers stops the frames, and its refill goes on with them (rule 33)") {
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

TEST_CASE_METHOD(Fixture, "one wake moves a bounded number of frames, with one interrupt (rule 11)") {
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

TEST_CASE_METHOD(Fixture, "a cable that takes no more keeps the frame in the ring until it does") {
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

TEST_CASE_METHOD(Fixture, "a broken ring asks for a reset and leaves the others alone") {
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

TEST_CASE_METHOD(Fixture, "a reset in the middle forgets buffers and frames, and the device starts anew (rule 18)") {
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

TEST_CASE_METHOD(Fixture,
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

TEST_CASE_METHOD(Fixture,
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

TEST_CASE_METHOD(Fixture, "a command without room for an answer, or without a command, goes back (rules 9 and 12)") {
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

TEST_CASE_METHOD(Fixture, "pairs are used when the driver says so, and each has its own cable") {
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

TEST_CASE_METHOD(Fixture, "without MQ the control queue follows the first pair (VirtIO 1.2, 5.1.2)") {
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

#pragma once

#include <sys/socket.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "devices/virtio/net.h"
#include "devices/virtio/tap.h"
#include "tests/fake_driver.h"

namespace minivm::test {

using namespace minivm::virtio;

using Bytes = std::vector<std::byte>;

constexpr net::MacAddress test_mac{0x02, 1, 2, 3, 4, 5};
constexpr std::uint64_t all_offloads = net::feature_csum | net::feature_host_tso4 | net::feature_host_tso6 |
                                       net::feature_host_ecn | net::feature_guest_csum | net::feature_guest_tso4 |
                                       net::feature_guest_tso6 | net::feature_guest_ecn;
constexpr std::uint64_t plain = feature::version_1 | feature::indirect_desc | feature::event_idx;
constexpr std::uint64_t mergeable = plain | net::feature_mrg_rxbuf;
constexpr std::size_t header_size = sizeof(net::Header);

/// A frame with its header of zeros: `size` counts both.
inline Bytes frame_of(std::size_t size, int seed = 1) {
  Bytes frame(size);
  for (std::size_t i = header_size; i < size; ++i)
    frame[i] = static_cast<std::byte>(i * 7 + static_cast<std::size_t>(seed));
  return frame;
}

inline std::uint16_t num_buffers(const Bytes& bytes) {
  std::uint16_t count = 0;
  std::memcpy(&count, bytes.data() + 10, sizeof count);
  return count;
}

inline Bytes without_header(const Bytes& bytes) { return {bytes.begin() + header_size, bytes.end()}; }

/// A network device whose cable ends in datagram sockets, one for each pair, that stand for a TAP interface's queues.
struct NetFixture {
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
    device = std::make_unique<Net>(std::make_unique<Tap>(std::move(queues), loop), test_mac);
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

}  // namespace minivm::test

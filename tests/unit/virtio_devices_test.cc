#include <array>
#include <bit>
#include <catch2/catch.hpp>
#include <functional>
#include <memory>

#include "devices/virtio/balloon.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/console.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/tap.h"
#include "devices/virtio/vsock.h"
#include "tests/net_fixture.h"
#include "tests/temporary_file.h"

using namespace minivm;
using namespace minivm::virtio;

namespace {

// What holds for every device that a machine can have, before a driver has come.
struct Devices {
  GuestMemory memory{16 << 20};
  EventLoop loop;
  test::TemporaryFile image{1 << 20};
  test::NetFixture network;
  Balloon balloon{memory};
  Blk blk{open_image(image.path(), false, HostCache::used), "disk", loop, {}};
  Console console{{.room = [] { return std::size_t{0}; }, .write = [](std::span<const std::byte>) {}}};
  Rng rng;
  Vsock vsock{3, loop};

  void each(const std::function<void(VirtioDevice&)>& check) {
    network.build(2);
    for (VirtioDevice* device :
         std::array<VirtioDevice*, 6>{&balloon, &blk, &console, network.device.get(), &rng, &vsock}) {
      INFO("device " << device->type());
      check(*device);
    }
  }
};

}  // namespace

TEST_CASE_METHOD(Devices, "no device offers what it does not keep: order, packed rings, legacy (rules 10 and 14)") {
  // VirtIO 1.2, 6: 24 to 40 are the transport's and the ring's.
  constexpr std::uint64_t kept = feature::version_1 | feature::indirect_desc | feature::event_idx;
  constexpr std::uint64_t ring_and_transport = ((1ULL << 17) - 1) << 24;
  each([](VirtioDevice& device) {
    CHECK((device.features() & ring_and_transport & ~kept) == 0);
    CHECK((device.features() & feature::version_1) != 0);
  });
}

TEST_CASE_METHOD(Devices, "every queue's largest size is a power of two, as a split ring's must be (2.7)") {
  each([](VirtioDevice& device) {
    CHECK_FALSE(device.queue_sizes().empty());
    for (const std::uint16_t size : device.queue_sizes()) CHECK(std::has_single_bit(size));
  });
}

TEST_CASE_METHOD(Devices,
                 "configuration space is zero beyond its end, at any offset and size (rule 20, CVE-2021-45464)") {
  each([](VirtioDevice& device) {
    for (const std::uint64_t offset :
         {std::uint64_t{256}, std::uint64_t{1} << 32, ~std::uint64_t{0}, ~std::uint64_t{3}}) {
      for (const std::size_t size : {1U, 2U, 4U, 8U}) {
        std::array<std::byte, 8> bytes;
        bytes.fill(std::byte{0xFF});
        device.write_config(offset, std::span(bytes).first(size));
        device.read_config(offset, std::span(bytes).first(size));
        CHECK(std::ranges::all_of(std::span(bytes).first(size), [](std::byte byte) { return byte == std::byte{0}; }));
        CHECK(std::ranges::all_of(std::span(bytes).subspan(size),
                                  [](std::byte byte) { return byte == std::byte{0xFF}; }));
      }
    }
  });
}

TEST_CASE_METHOD(Devices, "kicks of queues and resets before activation are harmless (rules 16 and 17)") {
  each([](VirtioDevice& device) {
    for (std::uint16_t queue = 0; queue < device.queue_sizes().size(); ++queue) device.on_notify(queue);
    device.reset();
    for (std::uint16_t queue = 0; queue < device.queue_sizes().size(); ++queue) device.on_notify(queue);
  });
}

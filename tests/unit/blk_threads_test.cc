// A driver on one thread against a disk on its loop's, with nothing between them but the rings, the doorbell and the
// interrupt, as with KVM: what neither may miss, and what TSan has an eye on (rules 1 to 4, 17).
#include <poll.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <thread>

#include "devices/virtio/blk.h"
#include "devices/virtio/mmio_transport.h"
#include "tests/fake_driver.h"
#include "tests/temporary_file.h"

using namespace minivm;
using namespace minivm::virtio;

namespace {

constexpr std::uint64_t sectors = 256;

struct Machine {
  GuestMemory memory{16 << 20};
  test::TemporaryFile file{sectors * 512};
  EventLoop loop;
  InterruptLine interrupt;
  Blk device{open_image(file.path(), false), "threads", loop, {.queues = 2, .limit = {}}};
  MmioTransport transport{device, loop, memory, interrupt};
  std::thread thread;

  explicit Machine(std::uint64_t features) {
    thread = std::thread([this] { loop.run(); });
    for (const std::uint32_t status : {1U, 3U}) out(mmio::status, status);
    for (const std::uint32_t half : {0U, 1U}) {
      out(mmio::driver_features_sel, half);
      out(mmio::driver_features, static_cast<std::uint32_t>(features >> (32 * half)));
    }
    out(mmio::status, 11);
  }
  ~Machine() {
    out(mmio::status, 0);
    loop.stop();
    thread.join();
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  void out(std::uint64_t offset, std::uint32_t value) { transport.write(offset, std::as_bytes(std::span(&value, 1))); }
  void enable(std::uint32_t queue, const QueueConfig& config) {
    out(mmio::queue_sel, queue);
    out(mmio::queue_num, config.size);
    out(mmio::queue_desc_low, static_cast<std::uint32_t>(raw(config.descriptor_table)));
    out(mmio::queue_driver_low, static_cast<std::uint32_t>(raw(config.available_ring)));
    out(mmio::queue_device_low, static_cast<std::uint32_t>(raw(config.used_ring)));
    out(mmio::queue_ready, 1);
  }
  /// Sleeps until the device interrupts.
  void sleep() {
    pollfd waiting{.fd = interrupt.fd(), .events = POLLIN, .revents = 0};
    REQUIRE(::poll(&waiting, 1, 60'000) == 1);
    std::uint64_t count = 0;
    REQUIRE(::read(interrupt.fd(), &count, sizeof count) == sizeof count);
    interrupt.acknowledge(~0U);
  }
};

std::string content(std::uint64_t number) {
  std::string text = std::to_string(number);
  text.resize(512, static_cast<char>('a' + number % 26));
  return text;
}

}  // namespace

TEST_CASE("driver and disk on threads of their own lose no request, no notification and no interrupt") {
  const std::uint64_t features = feature::version_1 | blk::feature_flush | blk::feature_mq |
                                 GENERATE(std::uint64_t{0}, feature::event_idx | feature::indirect_desc);
  Machine machine(features);
  std::array<test::FakeDriver, 2> drivers{test::FakeDriver(machine.memory, Gpa{0x100000}, 32),
                                          test::FakeDriver(machine.memory, Gpa{0x800000}, 32)};
  for (std::uint32_t queue = 0; queue < 2; ++queue) {
    drivers[queue].activate(features);  // tells the driver its features; the device makes a queue of its own
    machine.enable(queue, drivers[queue].config());
  }
  machine.out(mmio::status, 15);
  std::array<std::map<std::uint16_t, std::uint64_t>, 2> reads;  // by head: the sector that is read
  std::map<std::uint64_t, std::uint64_t> written;               // by sector: the number of the last write
  std::size_t under_way = 0;
  std::size_t answered = 0;
  constexpr std::size_t total = 4000;
  const auto offer = [&](std::size_t queue, std::uint64_t number) {
    test::FakeDriver& driver = drivers[queue];
    // Each queue keeps to its half of the disk, and reads what it wrote before.
    const std::uint64_t sector = queue * (sectors / 2) + number % (sectors / 2);
    if (number % 3 == 0 && !written.contains(sector) && under_way < 8) {
      driver.readable(blk::RequestHeader{blk::type_out, 0, sector});
      const std::string data = content(number);
      driver.readable(std::as_bytes(std::span(data))).writable(1).offer();
      written[sector] = number;
    } else if (number % 7 == 0) {
      driver.readable(blk::RequestHeader{blk::type_flush, 0, 0}).writable(1).offer();
    } else {
      driver.readable(blk::RequestHeader{blk::type_in, 0, sector}).writable(512).writable(1);
      reads[queue][driver.offer()] = sector;
    }
    ++under_way;
    if (driver.should_notify()) {
      const std::uint64_t one = 1;
      REQUIRE(::write(machine.transport.notify_fd(static_cast<std::uint16_t>(queue)), &one, sizeof one) == sizeof one);
    }
  };
  const auto collect = [&](std::size_t queue) {
    while (const auto used = drivers[queue].take_used()) {
      CHECK(used->bytes.back() == std::byte{0});
      const auto read = reads[queue].extract(used->head);
      if (!read.empty()) {
        const auto known = written.find(read.mapped());
        const std::string got(reinterpret_cast<const char*>(used->bytes.data()), 512);
        // The write may have been offered after this read.
        const bool right = got == std::string(512, '\0') || (known != written.end() && got == content(known->second));
        CHECK(right);
      }
      --under_way;
      ++answered;
    }
  };
  for (std::uint64_t number = 0; answered < total;) {
    for (std::size_t queue = 0; queue < 2; ++queue) {
      for (int i = 0; i < 2 && number < total && under_way < 8; ++i) offer(queue, number++);
    }
    collect(0);
    collect(1);
    if (under_way != 0) {
      machine.sleep();
      collect(0);
      collect(1);
    }
  }
  CHECK(under_way == 0);
}

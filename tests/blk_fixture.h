#pragma once

#include <poll.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "devices/virtio/blk.h"
#include "tests/fake_driver.h"
#include "tests/temporary_file.h"

namespace minivm::test {

using BlkHeader = virtio::blk::RequestHeader;

/// A disk over a real file, whose device runs on a loop's thread of its own, and a driver on the test's thread.
class BlkFixture {
 public:
  static constexpr std::uint64_t sectors = 64;
  static constexpr auto ok = static_cast<std::byte>(virtio::blk::Status::ok);
  static constexpr auto io_error = static_cast<std::byte>(virtio::blk::Status::io_error);
  static constexpr auto unsupported = static_cast<std::byte>(virtio::blk::Status::unsupported);
  static constexpr std::uint64_t usual_features = virtio::feature::version_1 | virtio::feature::indirect_desc |
                                                  virtio::feature::event_idx | virtio::blk::feature_flush |
                                                  virtio::blk::feature_discard | virtio::blk::feature_write_zeroes;

  BlkFixture() = default;
  ~BlkFixture() {
    stop();
    loop.stop();
    thread.join();
  }

  void start(bool read_only = false, std::uint64_t features = usual_features) {
    start(virtio::open_image(file.path(), read_only), features);
  }
  void start(virtio::DiskImage image, std::uint64_t features = usual_features,
             const virtio::Blk::Options& options = {}) {
    on_loop([&] {
      device.emplace(std::move(image), "minivm-root-disk-0123456789", loop, options);
      device->features_accepted(features);
      virtio::Activation activation{.features = features,
                                    .interrupt = &interrupt,
                                    .needs_reset = [this] { reset_needed = true; },
                                    .call_again = [this](std::uint16_t) { ++calls_again; }};
      activation.queues.emplace_back(driver.activate(features));
      device->activate(std::move(activation));
    });
  }
  /// Also unlocks the image.
  void stop() {
    on_loop([&] { device.reset(); });
  }

  void on_loop(const std::function<void()>& task) { loop.run_sync(task); }
  void kick(std::uint16_t queue = 0) {
    on_loop([&] { device->on_notify(queue); });
  }
  /// The next answer; it may be long in coming.
  FakeDriver::Used await() {
    for (;;) {
      if (auto used = driver.take_used()) return *used;
      std::this_thread::yield();
    }
  }
  FakeDriver::Used serve() {
    kick();
    return await();
  }
  std::byte status() { return serve().bytes.back(); }

  std::byte write(std::uint64_t sector, const std::string& data) {
    driver.readable(BlkHeader{virtio::blk::type_out, 0, sector}).readable(bytes_of(data)).writable(1).offer();
    return status();
  }
  /// What a read of `size` bytes brings; nothing when it fails.
  std::optional<std::string> read(std::uint64_t sector, std::uint32_t size) {
    driver.readable(BlkHeader{virtio::blk::type_in, 0, sector}).writable(size).writable(1).offer();
    const auto used = serve();
    if (used.bytes.back() != ok) return std::nullopt;
    CHECK(used.written == size + 1);
    return text_of(used.bytes).substr(0, size);
  }
  std::byte flush() {
    driver.readable(BlkHeader{virtio::blk::type_flush, 0, 0}).writable(1).offer();
    return status();
  }
  template <typename Field>
  Field config(std::uint64_t offset) const {
    Field value{};
    device->read_config(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  virtio::blk::Config config() const { return config<virtio::blk::Config>(0); }
  /// Interrupts since the last call.
  std::uint64_t interrupts() const {
    std::uint64_t count = 0;
    return ::read(interrupt.fd(), &count, sizeof count) == sizeof count ? count : 0;
  }

  static std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }
  static std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  GuestMemory memory{16 << 20};
  FakeDriver driver{memory, Gpa{0x100000}, 256};
  TemporaryFile file{sectors * 512};
  virtio::InterruptLine interrupt;
  EventLoop loop;
  std::thread thread{[this] { loop.run(); }};
  std::optional<virtio::Blk> device;  // lives on the loop
  bool reset_needed = false;
  int calls_again = 0;
};

}  // namespace minivm::test

#pragma once

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "devices/virtio/device.h"
#include "devices/virtio/spec.h"
#include "tests/fake_driver.h"
#include "tests/transports.h"

namespace minivm::test {

inline constexpr std::uint64_t offered_features =
    virtio::feature::version_1 | virtio::feature::event_idx | virtio::feature_bit(3);

/// Returns every chain untouched and keeps a record; all of it belongs to the loop's thread.
class EchoDevice final : public virtio::VirtioDevice {
 public:
  std::uint32_t type() const noexcept override { return 42; }
  std::uint64_t features() const noexcept override { return offered_features; }
  std::span<const std::uint16_t> queue_sizes() const noexcept override { return sizes_; }
  void read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept override {
    virtio::copy_config(config_, offset, data);
  }
  void write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept override {
    if (offset < config_.size()) config_[offset] = data[0];
  }
  std::uint32_t config_generation() const noexcept override { return generation; }
  void features_accepted(std::uint64_t features) noexcept override { accepted.push_back(features); }
  void activate(virtio::Activation activation) noexcept override {
    ++activations;
    thread = std::this_thread::get_id();
    active = std::move(activation);
  }
  void on_notify(std::uint16_t queue) noexcept override {
    ++notified[queue];
    if (defer_once) {
      defer_once = false;
      active->call_again(queue);
      return;
    }
    virtio::Virtqueue& live = *active->queues[queue];
    while (live.pop(chain_)) live.push_used(chain_.head(), 0);
    live.enable_notifications();
    if (live.needs_interrupt()) active->interrupt->signal_used(queue);
    if (live.broken()) active->needs_reset();
  }
  void reset() noexcept override {
    ++resets;
    active.reset();
  }

  std::uint32_t generation = 0;
  std::vector<std::uint64_t> accepted;
  std::optional<virtio::Activation> active;
  std::thread::id thread;
  int activations = 0;
  int resets = 0;
  std::array<int, 2> notified{};
  bool defer_once = false;

 private:
  static constexpr std::array<std::uint16_t, 2> sizes_{16, 8};
  std::array<std::byte, 6> config_{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}, std::byte{5}, std::byte{6}};
  virtio::DescriptorChain chain_;
};

/// The driver's thread is the test's; the device has a loop of its own.
struct TransportFixture {
  enum class Kind : std::uint8_t { mmio, pci };

  GuestMemory memory{16 << 20};
  EventLoop loop;
  EchoDevice device;
  std::unique_ptr<DriverRegisters> registers;
  FakeDriver driver{memory, Gpa{0x100000}, 16};
  std::thread thread;

  explicit TransportFixture(Kind kind) {
    if (kind == Kind::mmio) {
      registers = std::make_unique<MmioRegisters>(device, loop, memory);
    } else {
      registers = std::make_unique<PciRegisters>(device, loop, memory);
    }
    thread = std::thread([this] { loop.run(); });
  }
  ~TransportFixture() {
    loop.stop();
    thread.join();
  }

  std::uint32_t in(virtio::Register which) { return registers->in(which); }
  void out(virtio::Register which, std::uint32_t value) { registers->out(which, value); }

  void write_features(std::uint64_t features) {
    out(virtio::Register::driver_features_sel, 0);
    out(virtio::Register::driver_features, static_cast<std::uint32_t>(features));
    out(virtio::Register::driver_features_sel, 1);
    out(virtio::Register::driver_features, static_cast<std::uint32_t>(features >> 32));
  }
  void negotiate(std::uint64_t features = virtio::feature::version_1) {
    out(virtio::Register::status, 1);
    out(virtio::Register::status, 3);
    write_features(features);
    out(virtio::Register::status, 11);
  }
  void set_up_queue(std::uint32_t index, const virtio::QueueConfig& config) {
    out(virtio::Register::queue_sel, index);
    out(virtio::Register::queue_size, config.size);
    out(virtio::Register::queue_desc_low, static_cast<std::uint32_t>(raw(config.descriptor_table)));
    out(virtio::Register::queue_desc_high, static_cast<std::uint32_t>(raw(config.descriptor_table) >> 32));
    out(virtio::Register::queue_driver_low, static_cast<std::uint32_t>(raw(config.available_ring)));
    out(virtio::Register::queue_driver_high, static_cast<std::uint32_t>(raw(config.available_ring) >> 32));
    out(virtio::Register::queue_device_low, static_cast<std::uint32_t>(raw(config.used_ring)));
    out(virtio::Register::queue_device_high, static_cast<std::uint32_t>(raw(config.used_ring) >> 32));
    out(virtio::Register::queue_ready, 1);
  }
  void start() {
    negotiate();
    set_up_queue(0, driver.config());
    out(virtio::Register::status, 15);
  }
  // Waits until the loop has handled the kicks that came before.
  void settle() {
    bool passed = false;
    // An eventfd of our own is handled in the same round as those signalled before it, or in a later one.
    EventFd probe;
    loop.run_sync([&] {
      loop.watch(probe.fd(), EPOLLIN, [&](std::uint32_t) {
        probe.drain();
        passed = true;
      });
    });
    probe.signal();
    for (bool done = false; !done;) loop.run_sync([&] { done = passed; });
    loop.run_sync([&] { loop.unwatch(probe.fd()); });
    loop.run_sync([] {});
  }
  template <typename T>
  T on_loop(T EchoDevice::*member) {
    T value{};
    loop.run_sync([&] { value = device.*member; });
    return value;
  }
};

}  // namespace minivm::test

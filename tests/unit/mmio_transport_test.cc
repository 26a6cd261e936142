#include "devices/virtio/mmio_transport.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <thread>

#include "devices/virtio/spec.h"
#include "tests/fake_driver.h"

using namespace minivm;
using namespace minivm::virtio;
using minivm::test::FakeDriver;

namespace {

constexpr std::uint64_t offered = feature::version_1 | feature::event_idx | feature_bit(3);

// Returns every chain untouched and keeps a record; all of it belongs to the loop's thread.
class EchoDevice final : public VirtioDevice {
 public:
  std::uint32_t type() const noexcept override { return 42; }
  std::uint64_t features() const noexcept override { return offered; }
  std::span<const std::uint16_t> queue_sizes() const noexcept override { return sizes_; }
  void read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept override {
    copy_config(config_, offset, data);
  }
  void write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept override {
    if (offset < config_.size()) config_[offset] = data[0];
  }
  std::uint32_t config_generation() const noexcept override { return generation; }
  void features_accepted(std::uint64_t features) noexcept override { accepted.push_back(features); }
  void activate(Activation activation) noexcept override {
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
    Virtqueue& live = *active->queues[queue];
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
  std::optional<Activation> active;
  std::thread::id thread;
  int activations = 0;
  int resets = 0;
  std::array<int, 2> notified{};
  bool defer_once = false;

 private:
  static constexpr std::array<std::uint16_t, 2> sizes_{16, 8};
  std::array<std::byte, 6> config_{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}, std::byte{5}, std::byte{6}};
  DescriptorChain chain_;
};

// The driver's thread is the test's; the device has a loop of its own.
struct Fixture {
  GuestMemory memory{16 << 20};
  EventLoop loop;
  InterruptLine interrupt;
  EchoDevice device;
  MmioTransport transport{device, loop, memory, interrupt};
  FakeDriver driver{memory, Gpa{0x100000}, 16};
  std::thread thread{[this] { loop.run(); }};

  Fixture() = default;
  ~Fixture() {
    loop.stop();
    thread.join();
  }

  std::uint32_t in(std::uint64_t offset) {
    std::uint32_t value = 0xDEAD'BEEF;
    transport.read(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  void out(std::uint64_t offset, std::uint32_t value) { transport.write(offset, std::as_bytes(std::span(&value, 1))); }

  void write_features(std::uint64_t features) {
    out(mmio::driver_features_sel, 0);
    out(mmio::driver_features, static_cast<std::uint32_t>(features));
    out(mmio::driver_features_sel, 1);
    out(mmio::driver_features, static_cast<std::uint32_t>(features >> 32));
  }
  void negotiate(std::uint64_t features = feature::version_1) {
    out(mmio::status, 1);
    out(mmio::status, 3);
    write_features(features);
    out(mmio::status, 11);
  }
  void set_up_queue(std::uint32_t index, const QueueConfig& config) {
    out(mmio::queue_sel, index);
    out(mmio::queue_num, config.size);
    out(mmio::queue_desc_low, static_cast<std::uint32_t>(raw(config.descriptor_table)));
    out(mmio::queue_desc_high, static_cast<std::uint32_t>(raw(config.descriptor_table) >> 32));
    out(mmio::queue_driver_low, static_cast<std::uint32_t>(raw(config.available_ring)));
    out(mmio::queue_driver_high, static_cast<std::uint32_t>(raw(config.available_ring) >> 32));
    out(mmio::queue_device_low, static_cast<std::uint32_t>(raw(config.used_ring)));
    out(mmio::queue_device_high, static_cast<std::uint32_t>(raw(config.used_ring) >> 32));
    out(mmio::queue_ready, 1);
  }
  void start() {
    negotiate();
    set_up_queue(0, driver.config());
    out(mmio::status, 15);
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

}  // namespace

TEST_CASE_METHOD(Fixture, "the registers identify a modern virtio device") {
  CHECK(in(mmio::magic_value) == 0x74726976);
  CHECK(in(mmio::version) == 2);
  CHECK(in(mmio::device_id) == 42);
  CHECK(in(mmio::config_generation) == 0);
  CHECK(in(mmio::status) == 0);
  CHECK(in(0x0B0) == 0xFFFF'FFFF);  // no shared memory
  CHECK(in(0x0BC) == 0xFFFF'FFFF);
  CHECK(in(0x0D0) == 0);
}

TEST_CASE_METHOD(Fixture, "features are offered in two halves, and nothing beyond them") {
  out(mmio::device_features_sel, 0);
  CHECK(in(mmio::device_features) == static_cast<std::uint32_t>(offered));
  out(mmio::device_features_sel, 1);
  CHECK(in(mmio::device_features) == static_cast<std::uint32_t>(offered >> 32));
  for (const std::uint32_t selector : {2U, 32U, 0xFFFF'FFFFU}) {
    out(mmio::device_features_sel, selector);
    CHECK(in(mmio::device_features) == 0);
  }
}

TEST_CASE_METHOD(Fixture, "the status takes one step after the other, and only forwards (rule 13)") {
  const auto status_after = [&](std::uint32_t value) {
    out(mmio::status, value);
    return in(mmio::status);
  };
  CHECK(status_after(2) == 0);  // DRIVER before ACKNOWLEDGE
  CHECK(status_after(3) == 0);  // two steps at once
  CHECK(status_after(15) == 0);
  CHECK(status_after(1) == 1);
  CHECK(status_after(1) == 1);
  CHECK(status_after(2) == 1);     // clears a bit
  CHECK(status_after(9) == 1);     // skips DRIVER
  CHECK(status_after(0x11) == 1);  // a bit without meaning
  CHECK(status_after(3) == 3);
  CHECK(status_after(7) == 3);  // DRIVER_OK without FEATURES_OK
  write_features(feature::version_1);
  CHECK(status_after(11) == 11);
  CHECK(status_after(0x4B) == 11);    // DEVICE_NEEDS_RESET is not the driver's
  CHECK(status_after(0x8B) == 0x8B);  // FAILED is possible at any time
  CHECK(status_after(0x8F) == 0x8B);  // and final
  CHECK(status_after(0) == 0);
  CHECK(on_loop(&EchoDevice::activations) == 0);
}

TEST_CASE_METHOD(Fixture, "FEATURES_OK is refused without VERSION_1 or with features that were not offered (rule 14)") {
  const auto accepted = [&](std::uint64_t features) {
    out(mmio::status, 0);
    negotiate(features);
    return (in(mmio::status)&8) != 0;
  };
  CHECK(accepted(feature::version_1));
  CHECK(accepted(offered));
  CHECK_FALSE(accepted(0));
  CHECK_FALSE(accepted(feature_bit(3)));
  CHECK_FALSE(accepted(feature::version_1 | feature_bit(4)));
  CHECK_FALSE(accepted(feature::version_1 | feature_bit(35)));
  CHECK_FALSE(accepted(~std::uint64_t{0}));
}

TEST_CASE_METHOD(Fixture,
                 "features change only between DRIVER and FEATURES_OK; the device gets the acknowledged ones") {
  write_features(feature_bit(63));  // too early
  negotiate(feature::version_1 | feature_bit(3));
  write_features(offered);  // too late
  set_up_queue(0, driver.config());
  out(mmio::status, 15);
  write_features(offered);
  REQUIRE(on_loop(&EchoDevice::activations) == 1);
  loop.run_sync([&] { CHECK(device.active->features == (feature::version_1 | feature_bit(3))); });
}

TEST_CASE_METHOD(Fixture,
                 "activation happens on the loop's thread, with the enabled queues alone, and kicks each once "
                 "(rules 16 and 17)") {
  negotiate();
  set_up_queue(0, driver.config());
  driver.writable(4).offer();  // before DRIVER_OK, with no doorbell after it
  out(mmio::status, 15);
  CHECK(in(mmio::status) == 15);
  loop.run_sync([&] {
    CHECK(device.thread == std::this_thread::get_id());
    REQUIRE(device.active);
    REQUIRE(device.active->queues.size() == 2);
    CHECK(device.active->queues[0].has_value());
    CHECK_FALSE(device.active->queues[1].has_value());
  });
  CHECK(driver.take_used());
  CHECK(in(mmio::interrupt_status) == Interrupt::used_buffer);
  CHECK(on_loop(&EchoDevice::notified) == std::array{1, 0});
}

TEST_CASE_METHOD(Fixture, "a notification reaches the device by eventfd and by register; unknown queues are ignored") {
  start();
  driver.writable(4).offer();
  SECTION("by the register") { out(mmio::queue_notify, 0); }
  SECTION("by the eventfd that stands for it") {
    const std::uint64_t one = 1;
    REQUIRE(::write(transport.notify_fd(0), &one, sizeof one) == sizeof one);
  }
  settle();
  CHECK(driver.take_used());
  for (const std::uint32_t queue : {1U, 2U, 0xFFFFU, 0xFFFF'FFFFU}) out(mmio::queue_notify, queue);
  settle();
  CHECK(on_loop(&EchoDevice::notified)[1] == 0);  // not enabled
}

TEST_CASE_METHOD(Fixture, "a device that stops half-way is called again") {
  start();
  loop.run_sync([&] { device.defer_once = true; });
  driver.writable(4).offer();
  out(mmio::queue_notify, 0);
  settle();
  settle();
  CHECK(driver.take_used());
}

TEST_CASE_METHOD(Fixture, "notifications before DRIVER_OK and after a reset do nothing") {
  negotiate();
  set_up_queue(0, driver.config());
  out(mmio::queue_notify, 0);
  settle();
  CHECK(on_loop(&EchoDevice::notified) == std::array{0, 0});
  out(mmio::status, 15);
  out(mmio::status, 0);
  out(mmio::queue_notify, 0);
  settle();
  CHECK(on_loop(&EchoDevice::notified) == std::array{1, 0});  // activation's own
}

TEST_CASE_METHOD(Fixture, "queue registers are frozen at DRIVER_OK (CVE-2026-5747, rule 15)") {
  set_up_queue(0, driver.config());  // before FEATURES_OK
  out(mmio::queue_sel, 0);
  CHECK(in(mmio::queue_ready) == 0);
  start();
  QueueConfig other = driver.config();
  other.size = 0;
  other.descriptor_table = Gpa{~std::uint64_t{15}};
  out(mmio::queue_ready, 0);
  set_up_queue(0, other);
  CHECK(in(mmio::queue_ready) == 1);
  driver.writable(4).offer();
  out(mmio::queue_notify, 0);
  settle();
  CHECK(driver.take_used());
  loop.run_sync([&] { CHECK(device.active->queues[0]->size() == 16); });
}

TEST_CASE_METHOD(Fixture, "a queue's registers do not change while it is ready (rule 21)") {
  negotiate();
  set_up_queue(0, driver.config());
  out(mmio::queue_num, 3);
  out(mmio::queue_desc_low, 1);
  out(mmio::status, 15);
  CHECK(in(mmio::status) == 15);
}

TEST_CASE_METHOD(Fixture, "a queue number out of range selects nothing (CVE-2021-45464)") {
  negotiate();
  for (const std::uint32_t queue : {2U, 3U, 0xFFFFU, 0x8000'0000U, 0xFFFF'FFFFU}) {
    set_up_queue(queue, driver.config());
    CHECK(in(mmio::queue_num_max) == 0);
    CHECK(in(mmio::queue_ready) == 0);
  }
  out(mmio::queue_sel, 0);
  CHECK(in(mmio::queue_num_max) == 16);
  out(mmio::queue_sel, 1);
  CHECK(in(mmio::queue_num_max) == 8);
  CHECK(in(mmio::queue_ready) == 0);
}

TEST_CASE_METHOD(Fixture,
                 "a queue that cannot be asks for a reset and tells the driver, and the device stays inactive "
                 "(rule 19)") {
  negotiate();
  QueueConfig config = driver.config();
  SECTION("size zero") { config.size = 0; }
  SECTION("size no power of two") { config.size = 12; }
  SECTION("size above the maximum") { config.size = 32; }
  SECTION("misaligned") { config.used_ring = config.used_ring + 2; }
  SECTION("outside RAM") { config.available_ring = Gpa{memory.size()}; }
  set_up_queue(0, config);
  out(mmio::status, 15);
  CHECK(in(mmio::status) == (15 | status::needs_reset));
  CHECK(in(mmio::interrupt_status) == Interrupt::configuration_change);
  CHECK(on_loop(&EchoDevice::activations) == 0);
  out(mmio::queue_notify, 0);
  settle();
  // A reset heals it.
  out(mmio::status, 0);
  CHECK(in(mmio::status) == 0);
  start();
  CHECK(in(mmio::status) == 15);
  CHECK(on_loop(&EchoDevice::activations) == 1);
}

TEST_CASE_METHOD(Fixture, "a queue size whose low 16 bits look right is refused") {
  negotiate();
  out(mmio::queue_sel, 0);
  out(mmio::queue_num, 0x1'0010);
  out(mmio::queue_desc_low, 0x100000);
  out(mmio::queue_driver_low, 0x101000);
  out(mmio::queue_device_low, 0x102000);
  out(mmio::queue_ready, 1);
  out(mmio::status, 15);
  CHECK((in(mmio::status)&status::needs_reset) != 0);
}

TEST_CASE_METHOD(Fixture, "a driver that breaks a ring hears of it (rule 5)") {
  start();
  driver.set_available_idx(17);
  out(mmio::queue_notify, 0);
  settle();
  CHECK(in(mmio::status) == (15 | status::needs_reset));
  CHECK((in(mmio::interrupt_status)&Interrupt::configuration_change) != 0);
  out(mmio::status, 15 | status::needs_reset);  // what Linux may write back
  CHECK(in(mmio::status) == (15 | status::needs_reset));
}

TEST_CASE_METHOD(Fixture, "a ring that is broken already at DRIVER_OK does not lock the machine up") {
  driver.set_available_idx(999);
  start();
  CHECK(in(mmio::status) == (15 | status::needs_reset));
}

TEST_CASE_METHOD(Fixture, "a reset stops the device and forgets everything; the device starts anew (rule 18)") {
  start();
  driver.writable(4).offer();
  out(mmio::queue_notify, 0);
  settle();
  CHECK(in(mmio::interrupt_status) != 0);
  out(mmio::status, 0);
  CHECK(in(mmio::status) == 0);
  CHECK(on_loop(&EchoDevice::resets) == 1);
  CHECK(in(mmio::interrupt_status) == 0);
  CHECK(in(mmio::queue_ready) == 0);
  out(mmio::status, 0);
  CHECK(on_loop(&EchoDevice::resets) == 1);  // it was not active

  // Without queue set-up nothing is live; with it everything is again.
  negotiate();
  out(mmio::status, 15);
  loop.run_sync([&] { CHECK_FALSE(device.active->queues[0].has_value()); });
  out(mmio::status, 0);
  FakeDriver second(memory, Gpa{0x800000}, 8);
  negotiate();
  set_up_queue(0, second.config());
  out(mmio::status, 15);
  second.writable(1).offer();
  out(mmio::queue_notify, 0);
  settle();
  CHECK(second.take_used());
}

TEST_CASE_METHOD(Fixture, "interrupt causes stay until they are acknowledged, each by itself") {
  interrupt.signal_used(0);
  interrupt.signal_configuration();
  CHECK(in(mmio::interrupt_status) == 3);
  out(mmio::interrupt_ack, 1);
  CHECK(in(mmio::interrupt_status) == 2);
  out(mmio::interrupt_ack, 0xFFFF'FFFF);
  CHECK(in(mmio::interrupt_status) == 0);
}

TEST_CASE_METHOD(Fixture,
                 "configuration space takes any width, ends where it ends, and is written by drivers only (rule "
                 "20)") {
  std::array<std::byte, 8> data{};
  transport.read(mmio::config + 2, data);
  CHECK(data == std::array{std::byte{3}, std::byte{4}, std::byte{5}, std::byte{6}, std::byte{0}, std::byte{0},
                           std::byte{0}, std::byte{0}});
  transport.read(mmio::config + 0xFF, std::span(data).first(1));
  CHECK(data[0] == std::byte{0});
  const std::array value{std::byte{9}};
  transport.write(mmio::config, value);
  transport.read(mmio::config, std::span(data).first(1));
  CHECK(data[0] == std::byte{1});
  negotiate();
  transport.write(mmio::config, value);
  transport.write(mmio::config + 0xFF, value);
  transport.read(mmio::config, std::span(data).first(1));
  CHECK(data[0] == std::byte{9});
}

TEST_CASE_METHOD(Fixture, "registers are reached by aligned 32-bit accesses only") {
  std::array data{std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF},
                  std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF}};
  transport.read(mmio::magic_value, data);
  CHECK(data == std::array<std::byte, 8>{});
  data.fill(std::byte{0xFF});
  transport.read(mmio::magic_value + 1, std::span(data).first(4));
  CHECK(data[0] == std::byte{0});
  const std::array one{std::byte{1}};
  transport.write(mmio::status, one);
  CHECK(in(mmio::status) == 0);
}

TEST_CASE_METHOD(Fixture, "every register takes every kind of value in every status") {
  for (const std::uint32_t target : {0U, 1U, 3U, 11U, 15U}) {
    for (std::uint64_t offset = 0; offset < mmio::config; offset += 4) {
      for (const std::uint32_t value : {0U, 1U, 2U, 0xFFFFU, 0x8000'0000U, 0xFFFF'FFFFU}) {
        out(mmio::status, 0);
        if (target >= 1) out(mmio::status, 1);
        if (target >= 3) out(mmio::status, 3);
        if (target >= 11) write_features(feature::version_1);
        if (target >= 11) out(mmio::status, 11);
        if (target >= 15) out(mmio::status, 15);
        out(offset, value);
        in(offset);
      }
    }
  }
  out(mmio::status, 0);
  start();
  CHECK(in(mmio::status) == 15);
}

TEST_CASE("a reset after the loop has ended does not wait for it") {
  GuestMemory memory(1 << 20);
  EventLoop loop;
  InterruptLine interrupt;
  EchoDevice device;
  MmioTransport transport(device, loop, memory, interrupt);
  const auto out = [&](std::uint64_t offset, std::uint32_t value) {
    transport.write(offset, std::as_bytes(std::span(&value, 1)));
  };
  loop.stop();
  std::thread([&] { loop.run(); }).join();
  out(mmio::status, 1);
  out(mmio::status, 3);
  out(mmio::driver_features_sel, 1);
  out(mmio::driver_features, 1);
  out(mmio::status, 11);
  out(mmio::status, 15);
  CHECK(device.activations == 0);
  out(mmio::status, 0);
  CHECK(device.resets == 0);
}

TEST_CASE_METHOD(Fixture, "the device hears which features were accepted, and of a reset (rule 14)") {
  negotiate(feature::version_1 | feature_bit(40));  // not offered
  CHECK(device.accepted.empty());
  out(mmio::status, 0);
  negotiate(feature::version_1 | feature::event_idx);
  CHECK(device.accepted == std::vector{std::uint64_t{0}, feature::version_1 | feature::event_idx});
}

TEST_CASE_METHOD(Fixture, "the configuration generation is the device's (rule 20)") {
  CHECK(in(mmio::config_generation) == 0);
  device.generation = 7;
  CHECK(in(mmio::config_generation) == 7);
}

TEST_CASE("a configuration space changes as one with its generation (rule 20)") {
  struct Pair {
    std::uint32_t first = 0;
    std::uint32_t second = 0;
  };
  ConfigSpace space(Pair{});
  std::thread device([&] {
    for (std::uint32_t i = 1; i <= 10'000; ++i) space.update([i](Pair& pair) { pair = {i, i}; });
  });
  const auto half = [&](std::uint64_t offset) {
    std::uint32_t value = 0;
    space.read(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  };
  for (std::uint32_t last = 0; last < 10'000;) {
    // What a driver does: two halves are of one content when the generation is the same before and after.
    const std::uint32_t before = space.generation();
    const std::uint32_t first = half(0);
    const std::uint32_t second = half(4);
    if (space.generation() != before) continue;
    REQUIRE(first == second);
    last = first;
  }
  device.join();
  CHECK(space.generation() == 10'000);
}

#include "devices/virtio/device_registers.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <thread>

#include "devices/virtio/spec.h"
#include "tests/transport_fixture.h"

using namespace minivm;
using namespace minivm::virtio;
using minivm::test::EchoDevice;
using minivm::test::FakeDriver;
using minivm::test::offered_features;
using minivm::test::TransportFixture;

namespace {

// Each test runs on each transport.
struct Fixture : TransportFixture {
  Fixture() : TransportFixture(GENERATE(Kind::mmio, Kind::pci)) {}
};

}  // namespace

TEST_CASE_METHOD(Fixture, "features are offered in two halves, and nothing beyond them") {
  out(Register::device_features_sel, 0);
  CHECK(in(Register::device_features) == static_cast<std::uint32_t>(offered_features));
  out(Register::device_features_sel, 1);
  CHECK(in(Register::device_features) == static_cast<std::uint32_t>(offered_features >> 32));
  for (const std::uint32_t selector : {2U, 32U, 0xFFFF'FFFFU}) {
    out(Register::device_features_sel, selector);
    CHECK(in(Register::device_features) == 0);
  }
}

TEST_CASE_METHOD(Fixture, "the status takes one step after the other, and only forwards (rule 13)") {
  const auto status_after = [&](std::uint32_t value) {
    out(Register::status, value);
    return in(Register::status);
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
    out(Register::status, 0);
    negotiate(features);
    return (in(Register::status)&8) != 0;
  };
  CHECK(accepted(feature::version_1));
  CHECK(accepted(offered_features));
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
  write_features(offered_features);  // too late
  set_up_queue(0, driver.config());
  out(Register::status, 15);
  write_features(offered_features);
  REQUIRE(on_loop(&EchoDevice::activations) == 1);
  loop.run_sync([&] { CHECK(device.active->features == (feature::version_1 | feature_bit(3))); });
}

TEST_CASE_METHOD(Fixture,
                 "activation happens on the loop's thread, with the enabled queues alone, and kicks each once "
                 "(rules 16 and 17)") {
  negotiate();
  set_up_queue(0, driver.config());
  driver.writable(4).offer();  // before DRIVER_OK, with no doorbell after it
  out(Register::status, 15);
  CHECK(in(Register::status) == 15);
  loop.run_sync([&] {
    CHECK(device.thread == std::this_thread::get_id());
    REQUIRE(device.active);
    REQUIRE(device.active->queues.size() == 2);
    CHECK(device.active->queues[0].has_value());
    CHECK_FALSE(device.active->queues[1].has_value());
  });
  CHECK(driver.take_used());
  CHECK(registers->take_causes() == Interrupt::used_buffer);
  CHECK(on_loop(&EchoDevice::notified) == std::array{1, 0});
}

TEST_CASE_METHOD(Fixture, "a notification reaches the device by eventfd and by register; unknown queues are ignored") {
  start();
  driver.writable(4).offer();
  SECTION("by the register") { registers->notify(0); }
  SECTION("by the eventfd that stands for it") {
    const std::uint64_t one = 1;
    REQUIRE(::write(registers->notify_fd(0), &one, sizeof one) == sizeof one);
  }
  settle();
  CHECK(driver.take_used());
  for (const std::uint32_t queue : {1U, 2U, 0xFFFFU, 0xFFFF'FFFFU}) registers->notify(queue);
  settle();
  CHECK(on_loop(&EchoDevice::notified)[1] == 0);  // not enabled
}

TEST_CASE_METHOD(Fixture, "a device that stops half-way is called again") {
  start();
  loop.run_sync([&] { device.defer_once = true; });
  driver.writable(4).offer();
  registers->notify(0);
  settle();
  settle();
  CHECK(driver.take_used());
}

TEST_CASE_METHOD(Fixture, "notifications before DRIVER_OK and after a reset do nothing") {
  negotiate();
  set_up_queue(0, driver.config());
  registers->notify(0);
  settle();
  CHECK(on_loop(&EchoDevice::notified) == std::array{0, 0});
  out(Register::status, 15);
  out(Register::status, 0);
  registers->notify(0);
  settle();
  CHECK(on_loop(&EchoDevice::notified) == std::array{1, 0});  // activation's own
}

TEST_CASE_METHOD(Fixture, "queue registers are frozen at DRIVER_OK (CVE-2026-5747, rule 15)") {
  set_up_queue(0, driver.config());  // before FEATURES_OK
  out(Register::queue_sel, 0);
  CHECK(in(Register::queue_ready) == 0);
  start();
  QueueConfig other = driver.config();
  other.size = 0;
  other.descriptor_table = Gpa{~std::uint64_t{15}};
  out(Register::queue_ready, 0);
  set_up_queue(0, other);
  CHECK(in(Register::queue_ready) == 1);
  driver.writable(4).offer();
  registers->notify(0);
  settle();
  CHECK(driver.take_used());
  loop.run_sync([&] { CHECK(device.active->queues[0]->size() == 16); });
}

TEST_CASE_METHOD(Fixture, "a queue's registers do not change while it is ready (rule 21)") {
  negotiate();
  set_up_queue(0, driver.config());
  out(Register::queue_size, 3);
  out(Register::queue_desc_low, 1);
  out(Register::status, 15);
  CHECK(in(Register::status) == 15);
}

TEST_CASE_METHOD(Fixture, "a queue number out of range selects nothing (CVE-2021-45464)") {
  negotiate();
  for (const std::uint32_t queue : {2U, 3U, 0xFFFFU, 0x7FFFU, 0xFFFF'FFFFU}) {
    set_up_queue(queue, driver.config());
    CHECK(in(Register::queue_max_size) == 0);
    CHECK(in(Register::queue_ready) == 0);
  }
  out(Register::queue_sel, 0);
  CHECK(in(Register::queue_max_size) == 16);
  out(Register::queue_sel, 1);
  CHECK(in(Register::queue_max_size) == 8);
  CHECK(in(Register::queue_ready) == 0);
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
  out(Register::status, 15);
  CHECK(in(Register::status) == (15 | status::needs_reset));
  CHECK(registers->take_causes() == Interrupt::configuration_change);
  CHECK(on_loop(&EchoDevice::activations) == 0);
  registers->notify(0);
  settle();
  // A reset heals it.
  out(Register::status, 0);
  CHECK(in(Register::status) == 0);
  start();
  CHECK(in(Register::status) == 15);
  CHECK(on_loop(&EchoDevice::activations) == 1);
}

TEST_CASE_METHOD(Fixture, "a driver that breaks a ring hears of it (rule 5)") {
  start();
  driver.set_available_idx(17);
  registers->notify(0);
  settle();
  CHECK(in(Register::status) == (15 | status::needs_reset));
  CHECK((registers->take_causes() & Interrupt::configuration_change) != 0);
  out(Register::status, 15 | status::needs_reset);  // what Linux may write back
  CHECK(in(Register::status) == (15 | status::needs_reset));
}

TEST_CASE_METHOD(Fixture, "a ring that is broken already at DRIVER_OK does not lock the machine up") {
  driver.set_available_idx(999);
  start();
  CHECK(in(Register::status) == (15 | status::needs_reset));
}

TEST_CASE_METHOD(Fixture, "a reset stops the device and forgets everything; the device starts anew (rule 18)") {
  start();
  driver.writable(4).offer();
  registers->notify(0);
  settle();
  CHECK(registers->take_causes() != 0);
  out(Register::status, 0);
  CHECK(in(Register::status) == 0);
  CHECK(on_loop(&EchoDevice::resets) == 1);
  CHECK(registers->take_causes() == 0);
  CHECK(in(Register::queue_ready) == 0);
  out(Register::status, 0);
  CHECK(on_loop(&EchoDevice::resets) == 1);  // it was not active

  // Without queue set-up nothing is live; with it everything is again.
  negotiate();
  out(Register::status, 15);
  loop.run_sync([&] { CHECK_FALSE(device.active->queues[0].has_value()); });
  out(Register::status, 0);
  FakeDriver second(memory, Gpa{0x800000}, 8);
  negotiate();
  set_up_queue(0, second.config());
  out(Register::status, 15);
  second.writable(1).offer();
  registers->notify(0);
  settle();
  CHECK(second.take_used());
}

TEST_CASE_METHOD(Fixture,
                 "configuration space takes any width, ends where it ends, and is written by drivers only (rule "
                 "20)") {
  std::array<std::byte, 8> data{};
  registers->read_config(2, data);
  CHECK(data == std::array{std::byte{3}, std::byte{4}, std::byte{5}, std::byte{6}, std::byte{0}, std::byte{0},
                           std::byte{0}, std::byte{0}});
  registers->read_config(0xFF, std::span(data).first(1));
  CHECK(data[0] == std::byte{0});
  const std::array value{std::byte{9}};
  registers->write_config(0, value);
  registers->read_config(0, std::span(data).first(1));
  CHECK(data[0] == std::byte{1});
  negotiate();
  registers->write_config(0, value);
  registers->write_config(0xFF, value);
  registers->read_config(0, std::span(data).first(1));
  CHECK(data[0] == std::byte{9});
}

TEST_CASE_METHOD(Fixture, "every register takes every kind of value in every status") {
  for (const std::uint32_t target : {0U, 1U, 3U, 11U, 15U}) {
    for (std::uint64_t offset = 0; offset < registers->size(); ++offset) {
      for (const std::uint32_t value : {0U, 1U, 2U, 0xFFFFU, 0x8000'0000U, 0xFFFF'FFFFU}) {
        out(Register::status, 0);
        if (target >= 1) out(Register::status, 1);
        if (target >= 3) out(Register::status, 3);
        if (target >= 11) write_features(feature::version_1);
        if (target >= 11) out(Register::status, 11);
        if (target >= 15) out(Register::status, 15);
        std::array<std::byte, 4> bytes{};
        std::memcpy(bytes.data(), &value, sizeof value);
        for (const std::size_t size : {std::size_t{1}, std::size_t{2}, std::size_t{4}}) {
          registers->bus_device().write(offset, std::span(bytes).first(size));
          registers->bus_device().read(offset, std::span(bytes).first(size));
        }
      }
    }
  }
  out(Register::status, 0);
  start();
  CHECK(in(Register::status) == 15);
}

TEST_CASE_METHOD(Fixture, "the device hears which features were accepted, and of a reset (rule 14)") {
  negotiate(feature::version_1 | feature_bit(40));  // not offered
  CHECK(device.accepted.empty());
  out(Register::status, 0);
  negotiate(feature::version_1 | feature::event_idx);
  CHECK(device.accepted == std::vector{std::uint64_t{0}, feature::version_1 | feature::event_idx});
}

TEST_CASE_METHOD(Fixture, "the configuration generation is the device's (rule 20)") {
  CHECK(in(Register::config_generation) == 0);
  device.generation = 7;
  CHECK(in(Register::config_generation) == 7);
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

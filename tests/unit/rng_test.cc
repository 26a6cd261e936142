#include "devices/virtio/rng.h"

#include <catch2/catch.hpp>

#include "tests/fake_driver.h"

using namespace minivm;
using namespace minivm::virtio;
using minivm::test::FakeDriver;

namespace {

struct Fixture {
  GuestMemory memory{16 << 20};
  FakeDriver driver{memory, Gpa{0x100000}, 64};
  InterruptLine interrupt;
  Rng device;
  bool reset_needed = false;

  Fixture() {
    Activation activation{.features = feature::version_1,
                          .interrupt = &interrupt,
                          .needs_reset = [this] { reset_needed = true; },
                          .call_again = [](std::uint16_t) {}};
    activation.queues.emplace_back(driver.activate());
    device.activate(std::move(activation));
  }
  FakeDriver::Used serve() {
    device.on_notify(0);
    return driver.take_used().value();
  }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "a request is filled with bytes that differ each time") {
  driver.writable(32).writable(32).offer();
  const auto first = serve();
  CHECK(first.written == 64);
  CHECK(interrupt.status() == Interrupt::used_buffer);
  driver.writable(64).offer();
  const auto second = serve();
  CHECK(second.written == 64);
  CHECK(first.bytes != second.bytes);
  CHECK(first.bytes != std::vector<std::byte>(64));
}

TEST_CASE_METHOD(Fixture, "a request gets at least one byte and at most 64 KiB (rule 44)") {
  driver.writable(1).offer();
  CHECK(serve().written == 1);
  const auto size = static_cast<std::uint32_t>(Rng::max_bytes);
  driver.writable(size - 10).writable(size).writable(100).offer();
  const auto used = serve();
  CHECK(used.written == size);
  const std::vector<std::byte> untouched(used.bytes.begin() + size, used.bytes.end());
  CHECK(untouched == std::vector<std::byte>(untouched.size()));
}

TEST_CASE_METHOD(Fixture, "a request with nothing to write goes back empty (rule 12)") {
  driver.readable(std::uint64_t{1}).offer();
  CHECK(serve().written == 0);
}

TEST_CASE_METHOD(Fixture, "a broken ring asks for a reset") {
  driver.set_available_idx(65);
  device.on_notify(0);
  CHECK(reset_needed);
}

TEST_CASE_METHOD(Fixture, "there is no configuration space") {
  std::array data{std::byte{1}, std::byte{1}};
  device.read_config(0, data);
  CHECK(data == std::array<std::byte, 2>{});
  CHECK(device.type() == 4);
}

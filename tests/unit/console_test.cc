#include "devices/virtio/console.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "tests/fake_driver.h"

using namespace minivm;
using namespace minivm::virtio;
using minivm::test::FakeDriver;

namespace {

constexpr std::uint64_t mib = 1 << 20;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// A console whose device runs on the test's thread, with a sink that takes as much as the test lets it.
struct Fixture {
  GuestMemory memory{16 * mib};
  FakeDriver rx{memory, Gpa{mib}, 64};
  FakeDriver tx{memory, Gpa{8 * mib}, 64};
  InterruptLine interrupt;
  std::size_t room = 1 << 20;
  std::string written;
  int calls_again = 0;
  int resets_wanted = 0;
  int rooms = 0;
  Console device{{.room = [this] { return room; },
                  .write =
                      [this](std::span<const std::byte> bytes) {
                        REQUIRE(bytes.size() <= room);
                        room -= bytes.size();
                        written.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
                      }}};

  void start(std::uint64_t features = feature::version_1 | console::feature_size) {
    Activation activation{.features = features,
                          .interrupt = &interrupt,
                          .needs_reset = [this] { ++resets_wanted; },
                          .call_again = [this](std::uint16_t) { ++calls_again; }};
    activation.queues.emplace_back(rx.activate(features));
    activation.queues.emplace_back(tx.activate(features));
    device.activate(std::move(activation));
    device.on_room([this] { ++rooms; });
  }
  void say(std::string_view text) {
    tx.readable(bytes_of(text)).offer();
    device.on_notify(console::transmit_queue);
  }
  std::string heard() {
    const auto used = rx.take_used();
    return used ? std::string(reinterpret_cast<const char*>(used->bytes.data()), used->written) : "nothing";
  }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "what the guest sends comes out, in order, with one interrupt for a batch") {
  start(feature::version_1 | feature::event_idx);
  tx.readable(bytes_of("one ")).readable(bytes_of("two ")).offer();
  tx.readable(bytes_of("three")).offer();
  device.on_notify(console::transmit_queue);
  CHECK(written == "one two three");
  CHECK(tx.take_used()->written == 0);
  CHECK(tx.take_used());
  CHECK(interrupt.status() == Interrupt::used_buffer);
}

TEST_CASE_METHOD(Fixture, "a guest that floods a sink that does not take more waits, and loses nothing") {
  start();
  room = 3;
  say("abcdefgh");
  say("ijk");
  CHECK(written == "abc");
  CHECK_FALSE(tx.take_used());
  device.on_notify(console::transmit_queue);
  CHECK(written == "abc");
  room = 2;
  device.resume_output();
  CHECK(written == "abcde");
  room = 100;
  device.resume_output();
  CHECK(written == "abcdefghijk");
  CHECK(tx.take_used());
  CHECK(tx.take_used());
  device.resume_output();  // with nothing to resume
}

TEST_CASE_METHOD(Fixture, "one call serves a bounded number of buffers") {
  start();
  for (int i = 0; i < 64; ++i) tx.readable(bytes_of("x")).offer();
  device.on_notify(console::transmit_queue);
  CHECK(written.size() == 64);
  CHECK(calls_again == 1);
}

TEST_CASE_METHOD(Fixture, "input goes into the guest's buffers as far as they reach, and then waits") {
  start();
  rx.writable(4).offer();
  CHECK(device.push_input(bytes_of("keys!")) == 5);
  CHECK(heard() == "keys");
  CHECK(rooms == 0);
  CHECK(device.room() == Console::max_input - 1);
  rx.writable(64).offer();
  device.on_notify(console::receive_queue);
  CHECK(heard() == "!");
  CHECK(rooms == 1);
  CHECK(heard() == "nothing");
  CHECK(device.room() == Console::max_input);
}

TEST_CASE_METHOD(Fixture, "input is bounded whether the guest has a driver or not (FC #2177)") {
  const std::string flood(10'000, 'k');
  CHECK(device.push_input(bytes_of(flood)) == Console::max_input);
  CHECK(device.push_input(bytes_of(flood)) == 0);
  start();
  CHECK(device.room() == 0);
  for (int i = 0; i < 4; ++i) rx.writable(2048).offer();
  device.on_notify(console::receive_queue);
  CHECK(heard().size() == 2048);
  CHECK(heard().size() == 2048);
  CHECK(heard() == "nothing");
  CHECK(rooms == 1);
}

TEST_CASE_METHOD(Fixture, "buffers of the wrong direction go back as they came (rule 12)") {
  start();
  tx.writable(16).offer();
  device.on_notify(console::transmit_queue);
  CHECK(tx.take_used()->written == 0);
  CHECK(written.empty());
  rx.readable(bytes_of("?")).offer();
  rx.writable(16).offer();
  device.push_input(bytes_of("k"));
  CHECK(heard().empty());
  CHECK(heard() == "k");
}

TEST_CASE_METHOD(Fixture, "the size of the terminal is told, and that it changed") {
  device.resize(80, 24);
  CHECK(interrupt.status() == 0);  // there is no driver yet
  start();
  device.announce_size();
  CHECK(interrupt.status() == Interrupt::configuration_change);
  interrupt.acknowledge(Interrupt::configuration_change);
  const std::uint32_t before = device.config_generation();
  device.resize(132, 50);
  CHECK(interrupt.status() == Interrupt::configuration_change);
  CHECK(device.config_generation() != before);
  std::array<std::uint16_t, 2> size{};
  device.read_config(0, std::as_writable_bytes(std::span(size)));
  CHECK(size == std::array<std::uint16_t, 2>{132, 50});
}

TEST_CASE_METHOD(Fixture, "a reset forgets what the guest had not sent, and keeps the user's keys") {
  start();
  room = 1;
  say("abc");
  device.push_input(bytes_of("k"));
  device.reset();
  room = 100;
  device.resume_output();
  device.on_notify(console::transmit_queue);
  CHECK(written == "a");
  FakeDriver again(memory, Gpa{4 * mib}, 64);
  Activation activation{.features = feature::version_1, .interrupt = &interrupt};
  activation.queues.emplace_back(again.activate());
  activation.queues.emplace_back();
  device.activate(std::move(activation));
  again.writable(4).offer();
  device.on_notify(console::receive_queue);
  CHECK(again.take_used()->written == 1);
}

TEST_CASE_METHOD(Fixture, "a console whose ring is broken asks for a reset (rule 5)") {
  start();
  tx.set_available_idx(999);
  device.on_notify(console::transmit_queue);
  CHECK(resets_wanted == 1);
  device.push_input(bytes_of("k"));
  rx.set_available_idx(999);
  device.on_notify(console::receive_queue);
  CHECK(resets_wanted == 2);
  say("more");
  CHECK(written.empty());
}

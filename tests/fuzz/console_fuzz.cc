// A guest that fills the console's rings, and the memory they point to, with anything, while the user types and the
// terminal takes what it likes. Nothing is written that the sink has no room for, and no more input is held than said.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "devices/virtio/console.h"
#include "devices/virtio/interrupt.h"
#include "tests/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace minivm;
  using namespace minivm::virtio;
  constexpr std::uint64_t page = 4096;
  constexpr std::uint16_t queue_size = 8;
  static GuestMemory memory(1 << 20);
  test::FuzzInput input(data, size);
  InterruptLine interrupt;
  std::size_t room = 0;
  Console device({.room = [&] { return room; },
                  .write =
                      [&](std::span<const std::byte> bytes) {
                        if (bytes.empty() || bytes.size() > room) __builtin_trap();
                        room -= bytes.size();
                      }});

  const std::uint64_t features = feature::version_1 | (device.features() & input.take<std::uint64_t>());
  Activation activation{
      .features = features, .interrupt = &interrupt, .needs_reset = [] {}, .call_again = [](std::uint16_t) {}};
  const auto enabled = input.take<std::uint8_t>();
  for (std::uint16_t queue = 0; queue < 2; ++queue) {
    auto& live = activation.queues.emplace_back();
    // A page for each queue: its descriptors, its available ring, its used ring.
    const QueueConfig config{.size = queue_size,
                             .ready = true,
                             .descriptor_table = Gpa{page * queue},
                             .available_ring = Gpa{page * queue + 0x100},
                             .used_ring = Gpa{page * queue + 0x200}};
    if ((enabled >> queue & 1) != 0) live = Virtqueue::create(config, queue_size, features, memory).value();
  }
  memory.write_bytes(Gpa{0}, input.take_bytes(2 * page));
  device.activate(std::move(activation));
  for (int step = 0; step < 64 && !input.empty(); ++step) {
    const auto move = input.take<std::uint8_t>();
    if (move < 0x80) {
      const std::uint64_t at = input.take<std::uint16_t>() % (2 * page);
      memory.write_bytes(Gpa{at}, input.take_bytes(move % 32U));
      device.on_notify(move % 2U);
    } else if (move < 0xC0) {
      static constexpr std::array<std::byte, 256> keys{};
      const std::size_t before = device.room();
      if (device.push_input(std::span(keys).first(input.take<std::uint8_t>())) > before) __builtin_trap();
      if (device.room() > Console::max_input) __builtin_trap();
    } else if (move < 0xF0) {
      room = input.take<std::uint16_t>();
      device.resume_output();
    } else {
      device.resize(move, move);
    }
  }
  device.reset();
  return 0;
}

// A guest that fills the balloon's rings, and the memory they point to, with anything.
#include <cstddef>
#include <cstdint>

#include "devices/virtio/balloon.h"
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
  Balloon device(memory);

  const std::uint64_t features = feature::version_1 | (device.features() & input.take<std::uint64_t>());
  Activation activation{
      .features = features, .interrupt = &interrupt, .needs_reset = [] {}, .call_again = [](std::uint16_t) {}};
  const auto enabled = input.take<std::uint8_t>();
  for (std::uint16_t queue = 0; queue < device.queue_sizes().size(); ++queue) {
    auto& live = activation.queues.emplace_back();
    // A page for each queue: its descriptors, its available ring, its used ring.
    const QueueConfig config{.size = queue_size,
                             .ready = true,
                             .descriptor_table = Gpa{page * queue},
                             .available_ring = Gpa{page * queue + 0x100},
                             .used_ring = Gpa{page * queue + 0x200}};
    if ((enabled >> queue & 1) != 0) live = Virtqueue::create(config, queue_size, features, memory).value();
  }
  memory.write_bytes(Gpa{0}, input.take_bytes(5 * page));
  device.activate(std::move(activation));
  bool heard = false;
  for (int step = 0; step < 64 && !input.empty(); ++step) {
    const auto move = input.take<std::uint8_t>();
    if (move < 0xE0) {
      const std::uint64_t at = input.take<std::uint16_t>() % (5 * page);
      memory.write_bytes(Gpa{at}, input.take_bytes(move % 32U));
    } else if (move < 0xF0) {
      device.request_statistics([&](const MemoryStatistics&) { heard = true; });
    } else {
      const auto offset = input.take<std::uint8_t>();
      device.write_config(offset, input.take_bytes(4));
    }
    device.on_notify(move % 5U);
  }
  device.reset();
  if (device.request_statistics([](const MemoryStatistics&) {})) __builtin_trap();
  return 0;
}

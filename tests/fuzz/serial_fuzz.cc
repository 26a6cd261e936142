// The 16550A: any register access, with a sink that is busy at times and input that comes at any time.
#include "devices/serial.h"
#include "tests/fuzz/hostile_driver.h"

using namespace minivm;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  test::Choices choices(data, size);
  bool busy = false;
  Serial serial([&](std::span<const std::byte>) { return !busy; });
  serial.on_room([] {});
  while (!choices.empty()) {
    std::array<std::byte, 8> bytes{};
    const std::uint64_t offset = choices.below(8);
    const std::size_t width = choices.below(4) == 0 ? 1 + choices.below(8) : 1;
    switch (choices.below(5)) {
      case 0:
        serial.read(offset, std::span(bytes).first(width));
        break;
      case 1:
        serial.write(offset, choices.take(width));
        break;
      case 2: {
        const std::size_t room = serial.room();
        if (room > Serial::fifo_size) __builtin_trap();
        if (serial.push_input(choices.take(choices.below(24))) > room) __builtin_trap();
        break;
      }
      case 3:
        busy = choices.flip();
        break;
      default:
        serial.resume_output();
        break;
    }
  }
  return 0;
}

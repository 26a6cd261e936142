// virtio-console, while the user types and the terminal takes what it likes: nothing is written that the sink has no
// room for, and no more input is held than is said.
#include "devices/virtio/console.h"
#include "tests/fuzz/hostile_driver.h"

using namespace minivm;
using namespace minivm::virtio;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  test::Choices choices(data, size);
  EventLoop loop;
  std::size_t room = 0;
  Console device({.room = [&] { return room; },
                  .write =
                      [&](std::span<const std::byte> bytes) {
                        if (bytes.empty() || bytes.size() > room) __builtin_trap();
                        room -= bytes.size();
                      }});
  const auto special = [&](test::HostileDriver& driver, std::size_t queue) {
    static constexpr std::array<std::byte, 256> keys{};
    const std::size_t before = device.room();
    switch (choices.below(5)) {
      case 0:
        if (device.push_input(std::span(keys).first(choices.below(256))) > before) __builtin_trap();
        if (device.room() > Console::max_input) __builtin_trap();
        return;
      case 1:
        room = choices.next<std::uint16_t>();
        return device.resume_output();
      case 2:
        return device.resize(80, choices.next<std::uint8_t>());
      default:
        return driver.offer(queue, choices.take(4));
    }
  };
  test::HostileLife(device, loop, test::fuzz_memory(), choices, special).run();
  return 0;
}

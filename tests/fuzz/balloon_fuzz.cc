// virtio-balloon: pages, reports and statistics of any kind change nothing but guest RAM, and an answer comes once.
#include "devices/virtio/balloon.h"
#include "tests/fuzz/hostile_driver.h"

using namespace minivm;
using namespace minivm::virtio;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  test::Choices choices(data, size);
  EventLoop loop;
  Balloon device(test::fuzz_memory(), choices.next<std::uint32_t>());
  const auto special = [&](test::HostileDriver& driver, std::size_t queue) {
    if (choices.below(4) == 0) {
      device.request_statistics([answered = false](const MemoryStatistics&) mutable {
        if (std::exchange(answered, true)) __builtin_trap();
      });
    } else {
      driver.offer(queue, choices.take(choices.below(48)));
    }
  };
  test::HostileLife(device, loop, test::fuzz_memory(), choices, special).run();
  if (device.request_statistics([](const MemoryStatistics&) {})) __builtin_trap();
  return 0;
}

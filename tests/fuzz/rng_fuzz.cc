// virtio-rng: only buffers of the chain are filled, and a request costs the host no more than it says.
#include "devices/virtio/rng.h"
#include "tests/fuzz/hostile_driver.h"

using namespace minivm;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  test::Choices choices(data, size);
  EventLoop loop;
  virtio::Rng device;
  const auto special = [&](test::HostileDriver& driver, std::size_t queue) { driver.offer(queue, choices.take(4)); };
  test::HostileLife(device, loop, test::fuzz_memory(), choices, special).run();
  return 0;
}

// The register file of virtio-mmio in front of a real device, with accesses of any offset and size, in any order.
#include "devices/virtio/mmio_transport.h"
#include "devices/virtio/rng.h"
#include "tests/fuzz/hostile_driver.h"

using namespace minivm;
using namespace minivm::virtio;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const GuestMemory& memory = test::fuzz_memory();
  test::Choices choices(data, size);
  test::HostileDriver driver(memory, choices, 1);
  EventLoop loop;
  InterruptLine interrupt;
  Rng device;
  MmioTransport transport(device, loop, memory, interrupt);
  const auto out = [&](std::uint64_t offset, std::uint32_t value) {
    transport.write(offset, std::as_bytes(std::span(&value, 1)));
  };
  const auto good_start = [&] {
    out(mmio::status, 0);
    for (const std::uint32_t status : {1U, 3U}) out(mmio::status, status);
    out(mmio::driver_features_sel, 1);
    out(mmio::driver_features, 1);  // VERSION_1
    out(mmio::status, 11);
    const QueueConfig config = driver.config(0, Rng::queue_size);
    out(mmio::queue_sel, 0);
    out(mmio::queue_num, config.size);
    out(mmio::queue_desc_low, static_cast<std::uint32_t>(raw(config.descriptor_table)));
    out(mmio::queue_driver_low, static_cast<std::uint32_t>(raw(config.available_ring)));
    out(mmio::queue_device_low, static_cast<std::uint32_t>(raw(config.used_ring)));
    out(mmio::queue_ready, 1);
    out(mmio::status, 15);
  };
  const std::function<void()> step = [&] {
    if (choices.empty()) return loop.stop();
    const std::uint64_t offset = choices.flip() ? choices.below(80) * 4 : choices.next<std::uint16_t>() & 0xFFFU;
    std::array<std::byte, 8> bytes{};
    switch (choices.below(8)) {
      case 0:
        good_start();
        break;
      case 1:
        driver.misbehave();
        break;
      case 2:
        driver.offer(0, choices.take(4));
        out(mmio::queue_notify, 0);
        break;
      case 3:
        transport.read(offset, std::span(bytes).first(1 + choices.below(8)));
        break;
      case 4:
        transport.write(offset, std::span(bytes).first(1 + choices.below(8)));
        break;
      case 5:
        out(mmio::status, choices.next<std::uint8_t>() & 0xCFU);
        break;
      default:
        out(offset & ~std::uint64_t{3}, choices.flip() ? choices.next<std::uint8_t>() : choices.next<std::uint32_t>());
        break;
    }
    loop.post(step);
  };
  loop.post(step);
  loop.run();
  return 0;
}

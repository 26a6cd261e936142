#include "devices/virtio/mmio_transport.h"

#include <catch2/catch.hpp>
#include <thread>

#include "devices/virtio/spec.h"
#include "tests/transport_fixture.h"

using namespace minivm;
using namespace minivm::virtio;
using minivm::test::EchoDevice;
using minivm::test::MmioRegisters;
using minivm::test::TransportFixture;

namespace {

struct Fixture : TransportFixture {
  Fixture() : TransportFixture(Kind::mmio) {}

  MmioRegisters& mmio_registers = static_cast<MmioRegisters&>(*registers);
  MmioTransport& transport = mmio_registers.transport;

  std::uint32_t in(std::uint64_t offset) { return mmio_registers.in(offset); }
  void out(std::uint64_t offset, std::uint32_t value) { mmio_registers.out(offset, value); }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "the registers identify a modern virtio device") {
  CHECK(in(mmio::magic_value) == 0x74726976);
  CHECK(in(mmio::version) == 2);
  CHECK(in(mmio::device_id) == 42);
  CHECK(in(mmio::config_generation) == 0);
  CHECK(in(mmio::status) == 0);
  CHECK(in(0x0B0) == 0xFFFF'FFFF);  // no shared memory
  CHECK(in(0x0BC) == 0xFFFF'FFFF);
  CHECK(in(0x0D0) == 0);
}

TEST_CASE_METHOD(Fixture, "a queue size whose low 16 bits look right is refused") {
  negotiate();
  out(mmio::queue_sel, 0);
  out(mmio::queue_num, 0x1'0010);
  out(mmio::queue_desc_low, 0x100000);
  out(mmio::queue_driver_low, 0x101000);
  out(mmio::queue_device_low, 0x102000);
  out(mmio::queue_ready, 1);
  out(mmio::status, 15);
  CHECK((in(mmio::status)&status::needs_reset) != 0);
}

TEST_CASE_METHOD(Fixture, "interrupt causes stay until they are acknowledged, each by itself (rule 21)") {
  mmio_registers.interrupt.signal_used(0);
  mmio_registers.interrupt.signal_configuration();
  CHECK(in(mmio::interrupt_status) == 3);
  out(mmio::interrupt_ack, 1);
  CHECK(in(mmio::interrupt_status) == 2);
  out(mmio::interrupt_ack, 0xFFFF'FFFF);
  CHECK(in(mmio::interrupt_status) == 0);
}

TEST_CASE_METHOD(Fixture, "a reset forgets the causes, and which halves and queue were selected (rule 18)") {
  mmio_registers.interrupt.signal_used(0);
  mmio_registers.interrupt.signal_configuration();
  out(mmio::queue_sel, 7);
  out(mmio::device_features_sel, 1);
  const std::uint32_t high = in(mmio::device_features);
  out(mmio::status, 0);
  CHECK(in(mmio::interrupt_status) == 0);
  CHECK(in(mmio::queue_num_max) != 0);
  CHECK(in(mmio::device_features) != high);
}

TEST_CASE_METHOD(Fixture, "registers are reached by aligned 32-bit accesses only") {
  std::array data{std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF},
                  std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF}};
  transport.read(mmio::magic_value, data);
  CHECK(data == std::array<std::byte, 8>{});
  data.fill(std::byte{0xFF});
  transport.read(mmio::magic_value + 1, std::span(data).first(4));
  CHECK(data[0] == std::byte{0});
  const std::array one{std::byte{1}};
  transport.write(mmio::status, one);
  CHECK(in(mmio::status) == 0);
}

TEST_CASE("a reset after the loop has ended does not wait for it") {
  GuestMemory memory(1 << 20);
  EventLoop loop;
  InterruptLine interrupt;
  EchoDevice device;
  MmioTransport transport(device, loop, memory, interrupt);
  const auto out = [&](std::uint64_t offset, std::uint32_t value) {
    transport.write(offset, std::as_bytes(std::span(&value, 1)));
  };
  loop.stop();
  std::thread([&] { loop.run(); }).join();
  out(mmio::status, 1);
  out(mmio::status, 3);
  out(mmio::driver_features_sel, 1);
  out(mmio::driver_features, 1);
  out(mmio::status, 11);
  out(mmio::status, 15);
  CHECK(device.activations == 0);
  out(mmio::status, 0);
  CHECK(device.resets == 0);
}

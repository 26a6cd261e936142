// A guest that does anything to a virtio device's BAR, its configuration space and its rings, in any order: what it
// finds there is always a sane device again after a reset.
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "devices/pci/host.h"
#include "devices/virtio/pci_transport.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/spec.h"
#include "tests/fuzz_input.h"

namespace {

using namespace minivm;
using namespace minivm::virtio;
namespace common = over_pci::common;

constexpr std::uint64_t memory_size = 1 << 20;

class Guest {
 public:
  Guest(GuestMemory& memory, test::FuzzInput input) : memory_(memory), input_(input) {
    host_.add(0, transport_);
    loop_.post([this] { step(); });
    loop_.run();
  }

 private:
  // One move in each turn of the loop, so that the device handles its eventfds in between.
  void step() {
    if (input_.empty() || ++steps_ > 256) {
      out(common::status, 1, 0);
      if (in(common::status, 1) != 0) __builtin_trap();
      return loop_.stop();
    }
    move();
    loop_.post([this] { step(); });
  }

  void move() {
    std::array<std::byte, 8> bytes{};
    switch (input_.take<std::uint8_t>() % 7) {
      case 0:
        return set_up();
      case 1:
        transport_.read(offset_in_bar(), std::span(bytes).first(size()));
        return;
      case 2: {
        const std::uint64_t offset = offset_in_bar();
        const auto bytes_written = input_.take_bytes(size());
        if (!bytes_written.empty()) transport_.write(offset, bytes_written);
        return;
      }
      case 3:
        return host_.read(input_.take<std::uint16_t>(), std::span(bytes).first(size()));
      case 4: {
        const auto offset = input_.take<std::uint8_t>();
        const auto bytes_written = input_.take_bytes(size());
        if (!bytes_written.empty()) host_.write(offset, bytes_written);
        return;
      }
      case 5: {
        const std::uint64_t at = input_.take<std::uint32_t>() % (memory_size - 256);
        memory_.write_bytes(Gpa{at}, input_.take_bytes(input_.take<std::uint8_t>()));
        return;
      }
      default:
        transport_.signal_used(static_cast<std::uint16_t>(input_.take<std::uint8_t>() % transport_.queue_count()));
        return transport_.signal_configuration();
    }
  }

  // As a driver should, but with a queue anywhere.
  void set_up() {
    out(common::status, 1, 0);
    out(common::status, 1, 1);
    out(common::status, 1, 3);
    out(common::driver_features_sel, 4, 1);
    out(common::driver_features, 4, 1);
    out(common::status, 1, 11);
    out(common::queue_size, 2, 1U << input_.take<std::uint8_t>() % 8);
    out(common::queue_desc, 4, input_.take<std::uint16_t>() * 16U);
    out(common::queue_driver, 4, input_.take<std::uint16_t>() * 16U);
    out(common::queue_device, 4, input_.take<std::uint16_t>() * 16U);
    out(common::queue_enable, 2, 1);
    out(common::status, 1, 15);
  }

  std::uint64_t offset_in_bar() { return input_.take<std::uint16_t>() % (PciTransport::bar_size - 8); }
  std::size_t size() { return std::size_t{1} << input_.take<std::uint8_t>() % 4; }
  void out(std::uint64_t offset, std::size_t size, std::uint32_t value) {
    transport_.write(offset, std::as_bytes(std::span(&value, 1)).first(size));
  }
  std::uint32_t in(std::uint64_t offset, std::size_t size) {
    std::uint32_t value = 0;
    transport_.read(offset, std::as_writable_bytes(std::span(&value, 1)).first(size));
    return value;
  }

  GuestMemory& memory_;
  test::FuzzInput input_;
  int steps_ = 0;
  EventLoop loop_;
  Rng device_;
  PciTransport transport_{device_, loop_, memory_, 0xD100'0000, [](std::uint16_t vector, const pci::MsiMessage&) {
                            if (vector > 1) __builtin_trap();
                          }};
  pci::Host host_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static GuestMemory memory(memory_size);
  const Guest guest(memory, test::FuzzInput(data, size));
  return 0;
}

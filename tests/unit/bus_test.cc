#include "devices/bus.h"

#include <array>
#include <catch2/catch.hpp>

using namespace minivm;

namespace {

// Remembers the last access; reads give the offset.
class Recorder final : public BusDevice {
 public:
  void read(std::uint64_t offset, std::span<std::byte> data) noexcept override {
    last_offset = offset;
    std::ranges::fill(data, std::byte{static_cast<unsigned char>(offset)});
  }
  void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override {
    last_offset = offset;
    last_size = data.size();
  }

  std::uint64_t last_offset = ~std::uint64_t{0};
  std::size_t last_size = 0;
};

bool read(const Bus& bus, std::uint64_t address, std::size_t size) {
  std::array<std::byte, 8> data{};
  return bus.read(address, std::span(data).first(size));
}

}  // namespace

TEST_CASE("an access reaches the device that covers it, at its offset") {
  Bus bus;
  Recorder low, middle, high;
  bus.map(0x3000, 0x100, high);
  bus.map(0x1000, 0x100, low);
  bus.map(0x1100, 0x10, middle);
  CHECK(read(bus, 0x1000, 4));
  CHECK(low.last_offset == 0);
  CHECK(read(bus, 0x10FF, 1));
  CHECK(low.last_offset == 0xFF);
  CHECK(read(bus, 0x1100, 1));
  CHECK(middle.last_offset == 0);
  const std::array<std::byte, 4> data{};
  CHECK(bus.write(0x3050, data));
  CHECK(high.last_offset == 0x50);
  CHECK(high.last_size == 4);
}

TEST_CASE("an access that no device covers as a whole finds an empty bus") {
  Bus bus;
  Recorder device;
  bus.map(0x1000, 0x10, device);
  std::array data{std::byte{0}, std::byte{0}};
  for (const std::uint64_t address : {0x0FFFULL, 0x100FULL, 0x1010ULL, 0ULL, ~0ULL}) {
    data = {};
    CHECK_FALSE(bus.read(address, data));
    CHECK(data == std::array{std::byte{0xFF}, std::byte{0xFF}});
    CHECK_FALSE(bus.write(address, data));
  }
  CHECK(device.last_offset == ~std::uint64_t{0});
  CHECK_FALSE(read(Bus(), 0, 1));
}

TEST_CASE("a device at the end of the address space is reached, and its end does not wrap") {
  Bus bus;
  Recorder device;
  bus.map(~std::uint64_t{0} - 15, 16, device);
  CHECK(read(bus, ~std::uint64_t{0}, 1));
  CHECK(device.last_offset == 15);
  CHECK_FALSE(read(bus, ~std::uint64_t{0}, 2));
}

TEST_CASE("ranges that overlap or are empty cannot be mapped") {
  Bus bus;
  Recorder device;
  bus.map(0x1000, 0x100, device);
  CHECK_THROWS_AS(bus.map(0x1000, 0x100, device), std::logic_error);
  CHECK_THROWS_AS(bus.map(0x10FF, 1, device), std::logic_error);
  CHECK_THROWS_AS(bus.map(0x0FFF, 2, device), std::logic_error);
  CHECK_THROWS_AS(bus.map(0x0800, 0x1000, device), std::logic_error);
  CHECK_THROWS_AS(bus.map(0x2000, 0, device), std::logic_error);
  CHECK_NOTHROW(bus.map(0x0F00, 0x100, device));
  CHECK_NOTHROW(bus.map(0x1100, 1, device));
}

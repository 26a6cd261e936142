#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <span>

#include "devices/pci/empty_bus.h"

namespace minivm::pci {
namespace {

template <typename T>
T read(EmptyBus& bus, std::uint64_t offset) {
  std::array<std::byte, sizeof(T)> bytes{};
  bus.read(offset, bytes);
  T value{};
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

template <typename T>
void write(EmptyBus& bus, std::uint64_t offset, T value) {
  bus.write(offset, std::as_bytes(std::span(&value, 1)));
}

TEST_CASE("the address register holds what a kernel writes to see whether it is there (PCI 3.0, 3.2.2.3.2)") {
  EmptyBus bus;
  CHECK(read<std::uint32_t>(bus, 0) == 0);
  write(bus, 3, std::uint8_t{1});
  CHECK(read<std::uint32_t>(bus, 0) == 0);
  write(bus, 0, 0x8000'0000U);
  CHECK(read<std::uint32_t>(bus, 0) == 0x8000'0000U);
  write(bus, 0, std::uint16_t{0x1234});
  write(bus, 4, 0x1234U);
  CHECK(read<std::uint32_t>(bus, 0) == 0x8000'0000U);
}

TEST_CASE("nobody answers on the bus") {
  EmptyBus bus;
  for (const std::uint32_t slot : {0U, 1U, 31U}) {
    write(bus, 0, 0x8000'0000U | slot << 11);
    CHECK(read<std::uint32_t>(bus, 4) == 0xFFFF'FFFFU);
    CHECK(read<std::uint16_t>(bus, 6) == 0xFFFFU);
    CHECK(read<std::uint8_t>(bus, 7) == 0xFFU);
  }
}

}  // namespace
}  // namespace minivm::pci

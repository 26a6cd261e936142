#include "devices/pci/msix.h"

#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <utility>
#include <vector>

#include "devices/pci/spec.h"

namespace minivm::pci {
namespace {

struct Fixture {
  std::vector<std::pair<std::uint16_t, MsiMessage>> connected;
  Msix msix{3, [this](std::uint16_t vector, const MsiMessage& message) { connected.emplace_back(vector, message); }};

  void write(std::uint64_t offset, std::uint32_t value) {
    msix.write_table(offset, std::as_bytes(std::span(&value, 1)));
  }
  std::uint32_t read(std::uint64_t offset) const {
    std::uint32_t value = 0;
    msix.read_table(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  unsigned pending() const {
    std::array<std::byte, 1> bits{};
    msix.read_pending(0, bits);
    return std::to_integer<unsigned>(bits[0]);
  }
  void set_message(std::uint16_t vector, std::uint32_t address, std::uint32_t data) {
    write(msix::entry_size * vector, address);
    write(msix::entry_size * vector + 4, 0);
    write(msix::entry_size * vector + 8, data);
  }
  void mask(std::uint16_t vector, bool masked) { write(msix::entry_size * vector + 12, masked ? 1 : 0); }
  bool fired(std::uint16_t vector) const {
    const UniqueFd copy(::dup(msix.fd(vector)));
    std::uint64_t count = 0;
    return ::read(copy.get(), &count, sizeof count) == sizeof count;
  }
};

constexpr std::uint32_t local_apic = 0xFEE0'0000;

TEST_CASE_METHOD(Fixture, "vectors start masked, with nothing in their messages") {
  CHECK(read(0) == 0);
  CHECK(read(12) == 1);
  CHECK(read(msix::entry_size * 2 + 12) == 1);
  CHECK(read(msix::entry_size * 3) == 0);  // beyond the table
}

TEST_CASE_METHOD(Fixture, "a message is connected when its vector can fire, and not for each of the writes before") {
  msix.set_control(msix::control_enable | msix::control_mask_all);
  set_message(1, local_apic, 0x31);
  mask(1, false);
  CHECK(connected.empty());  // all are masked
  msix.set_control(msix::control_enable);
  REQUIRE(connected.size() == 1);
  CHECK(connected[0] == std::pair{std::uint16_t{1}, MsiMessage{local_apic, 0x31}});
  mask(1, true);
  mask(1, false);
  CHECK(connected.size() == 1);  // the same message
  mask(1, true);
  set_message(1, local_apic + 0x1000, 0x32);
  CHECK(connected.size() == 1);
  mask(1, false);
  REQUIRE(connected.size() == 2);
  CHECK(connected[1].second == MsiMessage{local_apic + 0x1000, 0x32});
}

TEST_CASE_METHOD(Fixture, "an interrupt goes to its own vector's eventfd, and nowhere while MSI-X is off") {
  msix.signal(0);
  CHECK(pending() == 0);
  msix.set_control(msix::control_enable);
  set_message(0, local_apic, 0x30);
  mask(0, false);
  CHECK_FALSE(fired(0));
  msix.signal(0);
  CHECK(fired(0));
  CHECK_FALSE(fired(1));
  for (const unsigned vector : {3U, 4U, 0x7FFU, 0xFFFFU}) msix.signal(static_cast<std::uint16_t>(vector));
  msix.set_control(0);
  msix.signal(0);
  CHECK_FALSE(fired(0));
}

TEST_CASE_METHOD(Fixture, "an interrupt of a masked vector is pending until it is unmasked, and then comes once") {
  msix.set_control(msix::control_enable);
  set_message(2, local_apic, 0x40);
  msix.signal(2);
  msix.signal(2);
  CHECK(pending() == 1U << 2);
  CHECK_FALSE(fired(2));
  mask(2, false);
  CHECK(pending() == 0);
  CHECK(fired(2));
  CHECK_FALSE(fired(2));
  // The same by the mask of all.
  msix.set_control(msix::control_enable | msix::control_mask_all);
  msix.signal(2);
  CHECK(pending() == 1U << 2);
  msix.set_control(msix::control_enable);
  CHECK(fired(2));
  // Turned off, nothing is pending.
  mask(2, true);
  msix.signal(2);
  msix.set_control(0);
  CHECK(pending() == 0);
}

TEST_CASE_METHOD(Fixture, "the table takes aligned words and double words; the rest is ignored") {
  write(0, 0xFFFF'FFFF);
  CHECK(read(0) == 0xFFFF'FFFC);
  write(12, 0xFFFF'FFFE);
  CHECK(read(12) == 0);
  write(2, 0x1234'5678);  // not aligned
  CHECK(read(0) == 0xFFFF'FFFC);
  const std::array<std::byte, 8> pair{std::byte{0x10}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{9}};
  msix.write_table(0, pair);
  CHECK(read(0) == 0x10);
  CHECK(read(4) == 9);
  msix.write_table(4, pair);  // not aligned to its size
  msix.write_table(8, std::span(pair).first(2));
  msix.write_table(8, std::span(pair).first(1));
  CHECK(read(4) == 9);
  CHECK(read(8) == 0);
  write(msix::entry_size * 3, 1);
  write(0xFFFF'FFF0, 1);
  std::array<std::byte, 8> odd{};
  msix.read_table(5, odd);
  CHECK(odd[0] == std::byte{0});
  msix.read_table(~std::uint64_t{0} - 3, odd);
  msix.read_pending(~std::uint64_t{0} - 3, odd);
  CHECK(connected.empty());
}

}  // namespace
}  // namespace minivm::pci

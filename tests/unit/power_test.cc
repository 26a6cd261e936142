#include "devices/power.h"

#include <array>
#include <catch2/catch.hpp>

using namespace minivm;

namespace {

struct Fixture {
  int power_offs = 0;
  int resets = 0;
  PowerPorts ports{[this] { ++power_offs; }, [this] { ++resets; }};

  void out(std::uint64_t offset, unsigned value) {
    const std::byte byte{static_cast<unsigned char>(value)};
    ports.write(offset, std::span(&byte, 1));
  }
};

constexpr unsigned sleep_enable = 1U << 5;

}  // namespace

TEST_CASE_METHOD(Fixture, "S5 with SLP_EN powers off, and nothing else does") {
  for (unsigned value = 0; value < 256; ++value) {
    const int before = power_offs;
    out(0, value);
    const bool wanted = (value & sleep_enable) != 0 && (value >> 2 & 7) == PowerPorts::sleep_type_s5;
    if ((power_offs != before) != wanted) FAIL("sleep control value " << value);
  }
  CHECK(power_offs == 16);  // bits 0, 1, 6 and 7 have no meaning
  CHECK(resets == 0);
}

TEST_CASE_METHOD(Fixture, "the reset value resets, and nothing else does") {
  for (unsigned value = 0; value < 256; ++value) out(2, value);
  CHECK(resets == 1);
  out(1, PowerPorts::reset_value);
  CHECK(resets == 1);
  CHECK(power_offs == 0);
}

TEST_CASE_METHOD(Fixture, "all registers read as zero: nothing sleeps, nothing woke up") {
  out(0, PowerPorts::sleep_type_s5 << 2);
  std::array<std::byte, 3> values{std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF}};
  ports.read(0, values);
  CHECK(values == std::array<std::byte, 3>{});
}

TEST_CASE_METHOD(Fixture, "a wide write reaches each register it covers") {
  const std::array values{std::byte{0}, std::byte{0}, std::byte{PowerPorts::reset_value}};
  ports.write(0, values);
  CHECK(resets == 1);
}

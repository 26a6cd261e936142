#include "devices/power.h"

#include <algorithm>

namespace minivm {
namespace {

constexpr std::uint64_t sleep_control = 0;
constexpr std::uint64_t reset_control = 2;

// The sleep control register (ACPI 6.4, 4.8.3.7): SLP_TYP in bits 2 to 4, SLP_EN in bit 5.
constexpr unsigned sleep_type_shift = 2;
constexpr std::uint8_t sleep_type_mask = 7;
constexpr std::uint8_t sleep_enable = 1U << 5;

}  // namespace

// SLP_EN reads as zero, and WAK_STS never gets set: no guest sleeps and wakes up here.
void PowerPorts::read(std::uint64_t, std::span<std::byte> data) noexcept { std::ranges::fill(data, std::byte{0}); }

void PowerPorts::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
  for (const std::byte byte : data) {
    const auto value = std::to_integer<std::uint8_t>(byte);
    if (offset == sleep_control) write_sleep_control(value);
    if (offset == reset_control && value == reset_value) reset_();
    ++offset;
  }
}

void PowerPorts::write_sleep_control(std::uint8_t value) noexcept {
  if ((value & sleep_enable) == 0) return;
  const unsigned type = value >> sleep_type_shift & sleep_type_mask;
  if (type == sleep_type_s5) return power_off_();
  faults_.warning("sleep state of type {} does not exist", type);
}

}  // namespace minivm

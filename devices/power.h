#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "base/log.h"
#include "devices/bus.h"

namespace minivm {

/// The guest's way to end itself: the sleep control, sleep status and reset registers of hardware-reduced ACPI
/// (ACPI 6.4, 4.8.3.7 and 4.8.3.6), one byte each, in this order. Any thread; so are the callbacks called.
class PowerPorts final : public BusDevice {
 public:
  /// What the DSDT's \_S5 package and the FADT's RESET_VALUE tell the guest to write.
  static constexpr std::uint8_t sleep_type_s5 = 5;
  static constexpr std::uint8_t reset_value = 1;

  /// Called each time the guest asks, so possibly more than once.
  PowerPorts(std::function<void()> power_off, std::function<void()> reset)
      : power_off_(std::move(power_off)), reset_(std::move(reset)) {}

  void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;

 private:
  void write_sleep_control(std::uint8_t value) noexcept;

  std::function<void()> power_off_;
  std::function<void()> reset_;
  log::FaultLimit faults_;
};

}  // namespace minivm

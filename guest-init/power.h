#pragma once

#include <cstdint>

namespace minivm::guest {

/// The I/O port and the value that end the machine; port 0: the kernel's own way is the only one.
struct PowerSwitch {
  std::uint32_t port = 0;
  std::uint32_t value = 0;
};

/// Ends every process (TERM, a grace, KILL), writes back and unmounts, and switches the machine off; bounded in time
/// but for the disks.
[[noreturn]] void power_off(const PowerSwitch& power_switch) noexcept;

}  // namespace minivm::guest

#pragma once

#include <cstdint>

namespace minivm {

/// When one machine reached what: CLOCK_MONOTONIC of the host in nanoseconds, 0 for what it never reached. Always
/// recorded: a stamp costs as much as reading the clock.
struct Timing {
  std::int64_t building = 0;       // its constructor began
  std::int64_t vm_created = 0;     // KVM has memory, interrupt controller, vCPUs and eventfds
  std::int64_t kernel_mapped = 0;  // guest memory holds all that its first instruction needs; beside vm_created
  std::int64_t first_run = 0;      // right before the first KVM_RUN, which enters the kernel
  std::int64_t init_started = 0;   // PID 1's first instruction; this and the next three are the guest's own stamps
  std::int64_t modules_loaded = 0;
  std::int64_t root_mounted = 0;
  std::int64_t guest_ready = 0;   // PID 1 sent READY
  std::int64_t ready = 0;         // READY arrived
  std::int64_t exec_started = 0;  // the guest's word that the command's program runs arrived
  std::int64_t exec_ended = 0;    // its exit status arrived
  std::int64_t ended = 0;         // the machine's loop was left
  /// How far off the guest's four stamps may be, either way: their clock is tied to the host's by the first messages.
  std::int64_t guest_error = 0;
};

}  // namespace minivm

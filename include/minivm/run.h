#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "minivm/config.h"
#include "minivm/timing.h"

namespace minivm {

/// How one `run` ended. `exit_code` is what a shell should see: the command's own, 128 + N for a signal, 127 not found,
/// 126 not executable, 125 minivm or the guest failed, 124 timed out.
struct RunResult {
  int exit_code = 0;
  std::optional<ExitStatus> status;        // of the command, when it ran to its end
  std::string failure;                     // why there is no status, for people; empty otherwise
  std::vector<std::string> console_lines;  // the guest's last ones, when it failed
  Timing timing;
};

/// Host descriptors that become the command's own. They are duplicated, never closed and never changed.
struct Streams {
  int input = 0;
  int output = 1;
  int error = 2;
};

/// Boots a machine, runs `command` in it, and takes the machine down again. Blocks until it is over; does not touch
/// signals or the terminal. Throws std::exception when the machine cannot be built.
RunResult run(const MachineConfig& config, const Command& command, const Streams& streams = {});

}  // namespace minivm

#pragma once

#include "cli/options.h"

namespace minivm {

/// What is done to machines by their names. Each returns the exit code for the shell: 0, or 1 when one of the names
/// failed, about which stderr has a line.
int stop_command(const StopOptions& options);
int kill_command(const KillOptions& options);
int remove_command(const RemoveOptions& options);
/// Returns the exit code of the last machine.
int wait_command(const WaitOptions& options);

}  // namespace minivm

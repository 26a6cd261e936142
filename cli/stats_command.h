#pragma once

#include "cli/options.h"

namespace minivm {

/// Prints what machines use. Returns the exit code for the shell: 1 when one of the names failed.
int stats_command(const StatsOptions& options);

}  // namespace minivm

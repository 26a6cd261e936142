#pragma once

#include "cli/options.h"

namespace minivm {

/// `minivm bench boot`: returns the exit code for the shell, the command's own when it failed.
int bench_command(const BenchOptions& options);

}  // namespace minivm

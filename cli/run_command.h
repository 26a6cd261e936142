#pragma once

#include "cli/options.h"

namespace minivm {

/// `minivm run`: returns the exit code for the shell.
int run_command(const RunOptions& options);

}  // namespace minivm

#pragma once

#include "cli/options.h"

namespace minivm {

/// `minivm logs`: returns the exit code for the shell.
int logs_command(const LogsOptions& options);

}  // namespace minivm

#pragma once

#include "cli/options.h"

namespace minivm {

/// `minivm boot`: returns the exit code for the shell.
int boot_command(const BootOptions& options);

}  // namespace minivm

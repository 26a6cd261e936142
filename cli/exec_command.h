#pragma once

#include "cli/options.h"

namespace minivm {

/// `minivm exec` and `minivm shell`: returns the exit code for the shell.
int exec_command(const ExecOptions& options);

}  // namespace minivm

#pragma once

#include "cli/options.h"

namespace minivm {

/// `minivm ps` and `minivm inspect`: return the exit code for the shell.
int list_command(const ListOptions& options);
int inspect_command(const InspectOptions& options);

}  // namespace minivm

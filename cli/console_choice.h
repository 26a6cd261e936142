#pragma once

#include <string>
#include <vector>

#include "base/host_file.h"
#include "cli/options.h"

namespace minivm {

/// The file that the serial console's output goes to; empty for `none`. Throws when it cannot be opened.
HostFile open_console(const ConsoleChoice& choice);

/// Adds TERM, as minivm itself has it, unless the user set one.
void add_terminal_type(std::vector<std::string>& env);

}  // namespace minivm

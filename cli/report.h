#pragma once

#include <string>
#include <vector>

#include "cli/process_start.h"
#include "minivm/timing.h"

namespace minivm {

/// One line that says what failed, then the guest's last console lines when there are any, all on stderr.
void report_failure(const std::string& failure, const std::vector<std::string>& console_lines);

/// The table of when what was reached, on stderr.
void report_timing(const ProcessStart& start, const Timing& timing);

}  // namespace minivm

#pragma once

#include <string>
#include <vector>

namespace minivm {

/// One line that says what failed, then the guest's last console lines when there are any, all on stderr.
void report_failure(const std::string& failure, const std::vector<std::string>& console_lines);

}  // namespace minivm

#include "cli/report.h"

#include "base/log.h"

namespace minivm {

void report_failure(const std::string& failure, const std::vector<std::string>& console_lines) {
  log::warning("{}", failure);
  if (console_lines.empty()) return;
  log::warning("the guest's last console lines:");
  for (const std::string& line : console_lines) log::warning("  | {}", line);
}

}  // namespace minivm

#include "cli/report.h"

#include "base/log.h"
#include "cli/timing_table.h"

namespace minivm {

void report_failure(const std::string& failure, const std::vector<std::string>& console_lines) {
  log::warning("{}", failure);
  if (console_lines.empty()) return;
  log::warning("the guest's last console lines:");
  for (const std::string& line : console_lines) log::warning("  | {}", line);
}

void report_timing(const ProcessStart& start, const Timing& timing) {
  for (const std::string& line : timing_table(start, timing)) log::warning("{}", line);
}

}  // namespace minivm

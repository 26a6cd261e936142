#include "cli/timing_table.h"

#include <fmt/format.h>

#include <algorithm>

namespace minivm {

std::vector<Milestone> milestones(const ProcessStart& start, const Timing& timing) {
  std::vector<Milestone> reached{
      {"exec", start.exec},
      {"main", start.main},
      {"options", start.options},
      {"VM created", timing.vm_created},
      {"kernel mapped", timing.kernel_mapped},
      {"first KVM_RUN", timing.first_run},
      {"PID 1", timing.init_started},
      {"modules loaded", timing.modules_loaded},
      {"root mounted", timing.root_mounted},
      {"READY sent", timing.guest_ready},
      {"READY", timing.ready},
      {"command started", timing.exec_started},
      {"command ended", timing.exec_ended},
      {"machine ended", timing.ended},
  };
  std::erase_if(reached, [](const Milestone& milestone) { return milestone.at == 0; });
  // What two threads or two clocks stamped may have come in another order than this one.
  std::ranges::stable_sort(reached, {}, &Milestone::at);
  return reached;
}

std::vector<std::string> timing_table(const ProcessStart& start, const Timing& timing) {
  const auto milliseconds = [](std::int64_t ns) { return static_cast<double>(ns) / 1e6; };
  std::vector<std::string> lines{fmt::format("{:<16} {:>10} {:>10}", "timing", "ms", "step")};
  const auto reached = milestones(start, timing);
  std::int64_t before = start.exec;
  for (const auto& [name, at] : reached) {
    lines.push_back(
        fmt::format("{:<16} {:>10.3f} {:>10.3f}", name, milliseconds(at - start.exec), milliseconds(at - before)));
    before = at;
  }
  if (timing.init_started != 0) {
    lines.push_back(
        fmt::format("PID 1 to READY sent: the guest's clock, within {:.3f} ms", milliseconds(timing.guest_error)));
  }
  return lines;
}

}  // namespace minivm

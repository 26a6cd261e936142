#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cli/process_start.h"
#include "minivm/timing.h"

namespace minivm {

struct Milestone {
  std::string_view name;
  std::int64_t at = 0;  // CLOCK_MONOTONIC in nanoseconds
};

/// What was reached, in the order of time.
std::vector<Milestone> milestones(const ProcessStart& start, const Timing& timing);

/// For people: each milestone in milliseconds after exec, and after the one before.
std::vector<std::string> timing_table(const ProcessStart& start, const Timing& timing);

}  // namespace minivm

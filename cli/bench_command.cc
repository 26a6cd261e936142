#include "cli/bench_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/log.h"
#include "cli/measured_boot.h"
#include "cli/spread.h"

namespace minivm {
namespace {

using Boots = std::vector<MeasuredBoot>;

/// A stretch of a boot. The first ones follow each other without gaps, so that they sum up to the whole.
struct Stage {
  std::string_view name;
  std::int64_t (*from)(const MeasuredBoot& boot);
  std::int64_t (*to)(const MeasuredBoot& boot);
  bool is_part = true;  // of the whole, beside the others
};

std::int64_t at_exec(const MeasuredBoot& boot) { return boot.exec; }
std::int64_t at_main(const MeasuredBoot& boot) { return boot.main; }
std::int64_t at_options(const MeasuredBoot& boot) { return boot.options; }
std::int64_t at_first_run(const MeasuredBoot& boot) { return boot.timing.first_run; }
std::int64_t at_init(const MeasuredBoot& boot) { return boot.timing.init_started; }
std::int64_t at_ready(const MeasuredBoot& boot) { return boot.timing.ready; }
std::int64_t at_started(const MeasuredBoot& boot) { return boot.timing.exec_started; }
std::int64_t at_ended(const MeasuredBoot& boot) { return boot.timing.exec_ended; }
std::int64_t at_gone(const MeasuredBoot& boot) { return boot.gone; }
std::int64_t zero(const MeasuredBoot&) { return 0; }
std::int64_t cpu(const MeasuredBoot& boot) { return boot.cpu; }

constexpr std::array stages{
    Stage{"exec to main", at_exec, at_main},
    Stage{"reading the options", at_main, at_options},
    Stage{"building the machine", at_options, at_first_run},
    Stage{"kernel", at_first_run, at_init},
    Stage{"PID 1 to READY", at_init, at_ready},
    Stage{"starting the command", at_ready, at_started},
    Stage{"the command", at_started, at_ended},
    Stage{"the end", at_ended, at_gone},
    Stage{"exec to first KVM_RUN", at_exec, at_first_run, false},
    Stage{"exec to PID 1", at_exec, at_init, false},
    Stage{"exec to READY", at_exec, at_ready, false},
    Stage{"exec to exit", at_exec, at_gone, false},
    Stage{"CPU time", zero, cpu, false},
};

Spread spread_in(const Boots& boots, const Stage& stage) {
  std::vector<std::int64_t> values;
  values.reserve(boots.size());
  for (const MeasuredBoot& boot : boots) values.push_back(stage.to(boot) - stage.from(boot));
  return spread_of(std::move(values));
}

/// The first boot fills caches and shows complaints, and does not count.
Boots measure(const BenchOptions& options) {
  Boots boots;
  for (std::uint32_t i = 0; i <= options.count; ++i) {
    boots.push_back(measure_boot(options.run_arguments));
    if (boots.back().exit_code != 0) break;
    if (boots.back().timing.init_started == 0) throw std::runtime_error("bench: the guest's clock makes no sense");
  }
  return boots;
}

void print_table(const BenchOptions& options, const Boots& boots) {
  const auto milliseconds = [](std::int64_t ns) { return static_cast<double>(ns) / 1e6; };
  const std::int64_t whole = std::max<std::int64_t>(spread_in(boots, {"", at_exec, at_gone}).median, 1);
  fmt::print("{} boots, milliseconds; minivm run {}\n", boots.size(), fmt::join(options.run_arguments, " "));
  fmt::print("{:<22} {:>10} {:>10} {:>10} {:>6}\n", "", "min", "median", "p99", "part");
  for (const Stage& stage : stages) {
    const Spread spread = spread_in(boots, stage);
    const std::string part = stage.is_part ? fmt::format("{} %", (100 * spread.median + whole / 2) / whole) : "";
    fmt::print("{:<22} {:>10.3f} {:>10.3f} {:>10.3f} {:>6}\n", stage.name, milliseconds(spread.min),
               milliseconds(spread.median), milliseconds(spread.p99), part);
  }
}

void print_json(const BenchOptions& options, const Boots& boots) {
  nlohmann::ordered_json report;
  report["boots"] = boots.size();
  report["arguments"] = options.run_arguments;
  for (const Stage& stage : stages) {
    const Spread spread = spread_in(boots, stage);
    report["stages"].push_back(
        {{"name", stage.name}, {"min_ns", spread.min}, {"median_ns", spread.median}, {"p99_ns", spread.p99}});
  }
  fmt::print("{}\n", report.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

}  // namespace

int bench_command(const BenchOptions& options) {
  Boots boots = measure(options);
  if (const int code = boots.back().exit_code; code != 0) {
    log::warning("bench: boot {} ended with exit code {}", boots.size(), code);
    return code;
  }
  boots.erase(boots.begin());
  if (options.json) {
    print_json(options, boots);
  } else {
    print_table(options, boots);
  }
  return std::fflush(stdout) == 0 ? 0 : 125;
}

}  // namespace minivm

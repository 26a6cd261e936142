#include "cli/doctor_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "vmm/doctor.h"

namespace minivm {
namespace {

std::string_view name_of(Finding::State state) {
  switch (state) {
    case Finding::State::ok:
      return "ok";
    case Finding::State::warning:
      return "warning";
    case Finding::State::failure:
      return "failure";
  }
  return "";
}

void print_json(const std::vector<Finding>& findings, bool ok) {
  nlohmann::ordered_json report;
  report["ok"] = ok;
  for (const Finding& finding : findings) {
    report["checks"].push_back(
        {{"name", finding.name}, {"state", name_of(finding.state)}, {"detail", finding.detail}, {"fix", finding.fix}});
  }
  fmt::print("{}\n", report.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void print_text(const std::vector<Finding>& findings, bool ok) {
  for (const Finding& finding : findings) {
    fmt::print("{:8} {:10} {}\n", name_of(finding.state), finding.name, finding.detail);
    if (!finding.fix.empty()) fmt::print("{:19} -> {}\n", "", finding.fix);
  }
  fmt::print("{}\n", ok ? "minivm run works here" : "minivm run would fail here");
}

}  // namespace

int doctor_command(const DoctorOptions& options) {
  const std::vector<Finding> findings = examine_host({.kernel = options.kernel, .only_kvm = options.quick});
  const bool ok =
      std::ranges::none_of(findings, [](const Finding& finding) { return finding.state == Finding::State::failure; });
  if (options.json) {
    print_json(findings, ok);
  } else {
    print_text(findings, ok);
  }
  return std::fflush(stdout) == 0 && ok ? 0 : 1;
}

}  // namespace minivm

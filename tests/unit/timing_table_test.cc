#include "cli/timing_table.h"

#include <catch2/catch.hpp>

namespace minivm {
namespace {

constexpr ProcessStart start{.exec = 1'000'000, .main = 1'500'000, .options = 2'000'000};

TEST_CASE("Milestones come in the order of time, without those that were not reached") {
  const auto reached = milestones(start, {.vm_created = 4'000'000, .kernel_mapped = 3'000'000, .first_run = 5'000'000});
  std::vector<std::string_view> names;
  for (const Milestone& milestone : reached) names.push_back(milestone.name);
  CHECK(names ==
        std::vector<std::string_view>{"exec", "main", "options", "kernel mapped", "VM created", "first KVM_RUN"});
}

TEST_CASE("The table counts from exec, and from the line before") {
  const auto lines = timing_table(start, {.first_run = 4'250'000});
  REQUIRE(lines.size() == 5);
  CHECK(lines[4] == "first KVM_RUN         3.250      2.250");
}

TEST_CASE("Stamps of the guest come with how far off they may be") {
  const auto lines = timing_table(start, {.init_started = 4'000'000, .guest_error = 20'000});
  CHECK_THAT(lines.back(), Catch::EndsWith("within 0.020 ms"));
}

}  // namespace
}  // namespace minivm

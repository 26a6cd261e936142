#include "cli/program_pages.h"

#include <catch2/catch.hpp>
#include <string>

#include "tests/own_mapping.h"

using namespace minivm;
using test::own_mapping;

TEST_CASE("released pages of the program are gone until they are used, and nothing else changes") {
  static const std::string constant = "as it was";
  std::string changed = "changed";
  const auto* const code = reinterpret_cast<const void*>(&release_program_pages);
  const auto before = own_mapping(code);
  REQUIRE(before);
  release_program_pages();
  const auto after = own_mapping(code);
  REQUIRE(after);
  CHECK(after->resident_kib < before->resident_kib / 2);
  CHECK(constant == "as it was");
  CHECK(changed == "changed");
}

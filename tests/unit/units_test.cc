#include "cli/units.h"

#include <catch2/catch.hpp>
#include <stdexcept>

namespace minivm {
namespace {

using namespace std::chrono_literals;
constexpr std::uint64_t mebi = 1 << 20;

TEST_CASE("A size without a unit is in MiB") {
  CHECK(parse_size("512") == 512 * mebi);
  CHECK(parse_size("0") == 0);
}

TEST_CASE("A size takes M, G and T, small, large or as MiB, GiB and TiB") {
  CHECK(parse_size("512M") == 512 * mebi);
  CHECK(parse_size("512m") == 512 * mebi);
  CHECK(parse_size("512MiB") == 512 * mebi);
  CHECK(parse_size("2G") == 2048 * mebi);
  CHECK(parse_size("2g") == 2048 * mebi);
  CHECK(parse_size("2GiB") == 2048 * mebi);
  CHECK(parse_size("1T") == mebi * mebi);
  CHECK(parse_size("1t") == mebi * mebi);
  CHECK(parse_size("1TiB") == mebi * mebi);
}

TEST_CASE("A size may have a fraction") {
  CHECK(parse_size("1.5G") == 1536 * mebi);
  CHECK(parse_size("0.25G") == 256 * mebi);
  CHECK(parse_size("2.G") == 2048 * mebi);
  CHECK_THROWS_AS(parse_size(".5G"), std::invalid_argument);
  CHECK_THROWS_AS(parse_size("1.5.5G"), std::invalid_argument);
  CHECK_THROWS_AS(parse_size("."), std::invalid_argument);
}

TEST_CASE("What is no size is refused by name") {
  for (const char* text : {"", "M", "-1", "-512M", "512K", "512MB", "512 M", " 512", "0x10", "1e3", "nan", "five"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH(parse_size(text), Catch::StartsWith(text) && Catch::Contains("not a size"));
  }
}

TEST_CASE("A size that no number of bytes can hold is refused") {
  for (const char* text : {"99999999999999999999", "inf", "1000000000T"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_size(text), std::invalid_argument);
  }
}

TEST_CASE("A duration without a unit is in seconds") {
  CHECK(parse_duration("30") == 30s);
  CHECK(parse_duration("0") == 0s);
}

TEST_CASE("A duration takes ms, s, m and h") {
  CHECK(parse_duration("500ms") == 500ms);
  CHECK(parse_duration("30s") == 30s);
  CHECK(parse_duration("1.5s") == 1500ms);
  CHECK(parse_duration("5m") == 5min);
  CHECK(parse_duration("1h") == 1h);
}

TEST_CASE("What is no duration is refused by name") {
  for (const char* text : {"", "s", "-1s", "5x", "5 s", "1d", "nan", "soon"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH(parse_duration(text), Catch::StartsWith(text) && Catch::Contains("not a duration"));
  }
}

TEST_CASE("A duration beyond what a timer can hold is refused") {
  for (const char* text : {"99999999999999h", "inf"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_duration(text), std::invalid_argument);
  }
}

}  // namespace
}  // namespace minivm

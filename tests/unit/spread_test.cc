#include "cli/spread.h"

#include <catch2/catch.hpp>

namespace minivm {
namespace {

TEST_CASE("A single value is minimum, median and 99th percentile") {
  const Spread spread = spread_of({7});
  CHECK(spread.min == 7);
  CHECK(spread.median == 7);
  CHECK(spread.p99 == 7);
}

TEST_CASE("Of a hundred values the 99th percentile leaves out the largest, of fewer none") {
  std::vector<std::int64_t> values;
  for (std::int64_t value = 100; value > 0; --value) values.push_back(value);
  CHECK(spread_of(values).p99 == 99);
  CHECK(spread_of(values).median == 50);
  values.erase(values.begin());  // 100
  CHECK(spread_of(values).p99 == 99);
  CHECK(spread_of({3, 1, 2}).median == 2);
}

}  // namespace
}  // namespace minivm

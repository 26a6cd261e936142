#pragma once

#include <cstdint>
#include <vector>

namespace minivm {

/// How a quantity that was measured again and again lies.
struct Spread {
  std::int64_t min = 0;
  std::int64_t median = 0;
  std::int64_t p99 = 0;  // nearest rank: with fewer than 100 values the largest one
};

/// Needs at least one value.
Spread spread_of(std::vector<std::int64_t> values);

}  // namespace minivm

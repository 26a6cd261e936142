#include "cli/spread.h"

#include <algorithm>

namespace minivm {

Spread spread_of(std::vector<std::int64_t> values) {
  std::ranges::sort(values);
  const std::size_t count = values.size();
  return {values.front(), values[(count - 1) / 2], values[(count * 99 + 99) / 100 - 1]};
}

}  // namespace minivm

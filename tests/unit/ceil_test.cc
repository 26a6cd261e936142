#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

namespace minivm {
namespace {

/// Through a pointer that the compiler cannot see through: it would compute or expand a direct call itself.
double linked_ceil(double value) {
  static double (*volatile function)(double) = ::ceil;
  return function(value);
}

TEST_CASE("ceil, which stands in for libm's, rounds up") {
  CHECK(linked_ceil(1.25) == 2.0);
  CHECK(linked_ceil(-1.25) == -1.0);
  CHECK(linked_ceil(3.0) == 3.0);
  CHECK(linked_ceil(-3.0) == -3.0);
  CHECK(linked_ceil(0x1p52 - 0.5) == 0x1p52);
  CHECK(linked_ceil(-0x1p52 + 0.5) == -0x1p52 + 1);
  CHECK(linked_ceil(0x1p60) == 0x1p60);
  CHECK(linked_ceil(std::numeric_limits<double>::denorm_min()) == 1.0);
}

TEST_CASE("ceil, which stands in for libm's, keeps signs and what is no number") {
  CHECK(std::signbit(linked_ceil(-0.5)));
  CHECK(std::signbit(linked_ceil(-0.0)));
  CHECK(!std::signbit(linked_ceil(0.0)));
  CHECK(std::isinf(linked_ceil(std::numeric_limits<double>::infinity())));
  CHECK(std::isnan(linked_ceil(std::numeric_limits<double>::quiet_NaN())));
}

}  // namespace
}  // namespace minivm

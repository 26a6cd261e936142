#include "vmm/guest_clock.h"

#include <catch2/catch.hpp>
#include <limits>

namespace minivm {
namespace {

TEST_CASE("The guest's clock is known to half of the round trip that bounds it") {
  GuestClock clock;
  CHECK_FALSE(clock.to_host(0));
  clock.heard(1'000, 501'300);
  CHECK_FALSE(clock.to_host(0));
  clock.answered(501'300, 1'500);
  // Between 499,800 and 500,300.
  REQUIRE(clock.to_host(10));
  CHECK(*clock.to_host(10) == 500'060);
  CHECK(clock.error() == 250);
}

TEST_CASE("Of several messages the fastest ones count") {
  GuestClock clock;
  clock.heard(1'000, 9'000);
  clock.heard(2'000, 3'100);
  clock.answered(1'000, 900);
  clock.answered(5'000, 4'100);
  CHECK(clock.to_host(0) == 1'000);
  CHECK(clock.error() == 100);
}

TEST_CASE("Stamps that contradict each other, or that no clock can have, give no answer") {
  GuestClock clock;
  constexpr auto most = std::numeric_limits<std::uint64_t>::max();
  clock.heard(most, 1'000);
  clock.answered(1'000, most);
  CHECK_FALSE(clock.to_host(0));
  clock.heard(5'000, 1'000);
  clock.answered(9'000, 0);
  CHECK_FALSE(clock.to_host(0));
  CHECK_FALSE(clock.to_host(most));
}

}  // namespace
}  // namespace minivm

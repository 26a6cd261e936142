#include "devices/rate_limit.h"

#include <catch2/catch.hpp>

#include "devices/virtio/blk.h"
#include "tests/blk_fixture.h"

using namespace minivm;
using namespace std::chrono_literals;

namespace {

const TokenBucket::Clock::time_point start{1000s};

}  // namespace

TEST_CASE("a bucket lets a tenth of a second's worth pass at once, then the rate") {
  TokenBucket bucket(1000, start);
  auto now = start;
  int passed = 0;
  for (; bucket.wait(now) == 0ns; ++passed) bucket.take(1);
  CHECK(passed == 100);
  for (; now < start + 10s; now += bucket.wait(now)) {
    if (bucket.wait(now) > 0ns) continue;
    bucket.take(1);
    ++passed;
  }
  CHECK(passed >= 10'099);
  CHECK(passed <= 10'101);
}

TEST_CASE("what is larger than the bucket passes whole, and what follows pays for it") {
  TokenBucket bucket(1000, start);
  CHECK(bucket.wait(start) == 0ns);
  bucket.take(5100);
  CHECK(bucket.wait(start) > 4999ms);
  CHECK(bucket.wait(start) < 5001ms);
  CHECK(bucket.wait(start + 4s) > 999ms);
  CHECK(bucket.wait(start + 4s + bucket.wait(start + 4s)) == 0ns);
}

TEST_CASE("time that nobody uses fills the bucket, and no more") {
  TokenBucket bucket(1000, start);
  bucket.take(100);
  int passed = 0;
  for (; bucket.wait(start + 1h) == 0ns; ++passed) bucket.take(1);
  CHECK(passed == 100);
}

TEST_CASE("the smallest rate passes one at a time; no rate passes all") {
  TokenBucket slow(1, start);
  CHECK(slow.wait(start) == 0ns);
  slow.take(1);
  CHECK(slow.wait(start) > 0ns);
  CHECK(slow.wait(start + 1s + 1ns) == 0ns);
  TokenBucket open(0, start);
  open.take(~std::uint64_t{0});
  CHECK(open.wait(start) == 0ns);
  TokenBucket indebted(1, start);
  indebted.take(~std::uint64_t{0} >> 1);
  CHECK(indebted.wait(start) >= 1h);
}

TEST_CASE_METHOD(test::BlkFixture, "a limited disk serves what its limit lets through, the rest later by itself") {
  const bool by_bytes = GENERATE(false, true);
  // The first few pass at once, the others wait for the timer; how long is not for a test to say.
  const RateLimit limit =
      by_bytes ? RateLimit{.operations = 0, .bytes = 200'000} : RateLimit{.operations = 200, .bytes = 0};
  start(virtio::open_image(file.path(), false), usual_features, {.queues = 1, .limit = limit});
  for (int i = 0; i < 60; ++i)
    driver.readable(test::BlkHeader{virtio::blk::type_in, 0, 0}).writable(1024).writable(1).offer();
  std::uint16_t at_once = 0;
  on_loop([&] {
    device->on_notify(0);
    at_once = driver.used_idx();
  });
  CHECK(at_once >= 1);
  CHECK(at_once < 60);
  for (int i = 0; i < 60; ++i) CHECK(await().bytes.back() == ok);
}

TEST_CASE_METHOD(test::BlkFixture, "a reset does not forgive a limited disk its debt") {
  start(virtio::open_image(file.path(), false), usual_features, {.queues = 1, .limit = {.operations = 0, .bytes = 1}});
  CHECK(flush() == ok);
  on_loop([&] { device->reset(); });
  driver.restart();
  on_loop([&] {
    virtio::Activation activation{
        .features = usual_features, .interrupt = &interrupt, .needs_reset = [] {}, .call_again = [](std::uint16_t) {}};
    activation.queues.emplace_back(driver.activate(usual_features));
    device->activate(std::move(activation));
    driver.readable(test::BlkHeader{virtio::blk::type_flush, 0, 0}).writable(1).offer();
    device->on_notify(0);
    CHECK(driver.used_idx() == 0);
  });
}

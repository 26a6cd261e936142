#include "base/event_loop.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "tests/temporary_file.h"

using namespace minivm;
using namespace std::chrono_literals;

TEST_CASE("a ready fd calls its handler until it is drained") {
  EventLoop loop;
  EventFd event;
  int calls = 0;
  REQUIRE(loop.watch(event.fd(), EPOLLIN, [&](std::uint32_t events) {
    CHECK(events == EPOLLIN);
    if (++calls == 2) {
      CHECK(event.drain() == 2);
      loop.stop();
    }
  }));
  event.signal();
  event.signal();
  loop.run();
  CHECK(calls == 2);
  CHECK(event.drain() == 0);
}

TEST_CASE("a regular file cannot be watched; a closed fd is an error") {
  EventLoop loop;
  const test::TemporaryFile file;
  const UniqueFd fd = open_file(file.path(), O_RDONLY);
  CHECK_FALSE(loop.watch(fd.get(), EPOLLIN, [](std::uint32_t) {}));
  CHECK_THROWS_AS(loop.watch(-1, EPOLLIN, [](std::uint32_t) {}), std::system_error);
}

TEST_CASE("a handler may unwatch itself and others that are ready in the same round") {
  EventLoop loop;
  EventFd first, second;
  int calls = 0;
  const auto handler = [&](std::uint32_t) {
    ++calls;
    loop.unwatch(first.fd());
    loop.unwatch(second.fd());
    loop.post([&] { loop.stop(); });
  };
  loop.watch(first.fd(), EPOLLIN, handler);
  loop.watch(second.fd(), EPOLLIN, handler);
  first.signal();
  second.signal();
  loop.run();
  CHECK(calls == 1);
}

TEST_CASE("an fd that is silenced keeps its handler for later") {
  EventLoop loop;
  EventFd event;
  int calls = 0;
  loop.watch(event.fd(), EPOLLIN, [&](std::uint32_t) {
    ++calls;
    loop.rearm(event.fd(), 0);
    if (calls == 2) return loop.stop();
    loop.after(1ms, [&] {
      CHECK(calls == 1);
      loop.rearm(event.fd(), EPOLLIN);
    });
  });
  event.signal();
  loop.run();
  CHECK(calls == 2);
}

TEST_CASE("timers run in the order of their times, not before them, and not when cancelled") {
  EventLoop loop;
  std::vector<int> order;
  const auto start = EventLoop::Clock::now();
  loop.after(20ms, [&] {
    order.push_back(2);
    CHECK(EventLoop::Clock::now() - start >= 20ms);
    loop.stop();
  });
  const auto cancelled = loop.after(2ms, [&] { order.push_back(9); });
  loop.after(1ms, [&] {
    order.push_back(1);
    loop.cancel(cancelled);
  });
  loop.after(0ms, [&] { order.push_back(0); });
  loop.cancel(12345);
  loop.run();
  CHECK(order == std::vector{0, 1, 2});
}

TEST_CASE("tasks of another thread run on the loop's thread, in order") {
  EventLoop loop;
  std::vector<int> order;
  std::thread::id loop_thread;
  std::thread runner([&] {
    loop_thread = std::this_thread::get_id();
    loop.run();
  });
  for (int i = 0; i < 100; ++i) {
    REQUIRE(loop.post([&, i] {
      order.push_back(i);
      if (std::this_thread::get_id() != loop_thread) order.push_back(-1);
    }));
  }
  std::size_t seen = 0;
  CHECK(loop.run_sync([&] { seen = order.size(); }));
  CHECK(seen == 100);
  loop.stop();
  runner.join();
  CHECK(std::ranges::is_sorted(order));
  CHECK(order.front() == 0);
}

TEST_CASE("run_sync on the loop's own thread runs at once") {
  EventLoop loop;
  bool ran = false;
  loop.post([&] {
    CHECK(loop.run_sync([&] { ran = true; }));
    CHECK(ran);
    loop.stop();
  });
  loop.run();
  CHECK(ran);
}

TEST_CASE("what was posted before the end still runs, and what comes later is refused, not forgotten in silence") {
  EventLoop loop;
  int ran = 0;
  loop.stop();
  CHECK(loop.post([&] {
    ++ran;
    loop.post([&] { ++ran; });
  }));
  std::thread([&] { loop.run(); }).join();
  CHECK(ran == 2);
  CHECK_FALSE(loop.post([&] { ++ran; }));
  CHECK_FALSE(loop.run_sync([&] { ++ran; }));
  CHECK(ran == 2);
}

TEST_CASE("run_sync races with the end of the loop and never hangs") {
  for (int round = 0; round < 200; ++round) {
    EventLoop loop;
    std::atomic<int> ran = 0;
    std::thread runner([&] { loop.run(); });
    std::thread stopper([&] { loop.stop(); });
    const bool done = loop.run_sync([&] { ++ran; });
    if (ran != (done ? 1 : 0)) FAIL("round " << round << ": " << done << ", " << ran);
    stopper.join();
    runner.join();
  }
}

#include "vmm/console_log.h"

#include <catch2/catch.hpp>
#include <string>
#include <string_view>

namespace minivm {
namespace {

using Lines = std::vector<std::string>;

void append(ConsoleLog& log, std::string_view text) { log.append(std::as_bytes(std::span(text))); }

constexpr std::string_view panic = "[    0.9] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n";

TEST_CASE("A console that said nothing has no lines and no panic") {
  const ConsoleLog log;
  CHECK(log.last_lines(5).empty());
  CHECK_FALSE(log.panicked());
}

TEST_CASE("The last lines come oldest first, without empty ones and without control characters") {
  ConsoleLog log;
  append(log, "first\r\n\r\n  \t\r\n\x1b[1msecond\r\nth\x07ird\tdone\r\nunfinished");
  CHECK(log.last_lines(10) == Lines{"first", "[1msecond", "third\tdone", "unfinished"});
  CHECK(log.last_lines(2) == Lines{"third\tdone", "unfinished"});
  CHECK(log.last_lines(0).empty());
}

TEST_CASE("Bytes above ASCII stay as they are") {
  ConsoleLog log;
  append(log, "gr\xC3\xBC\xC3\x9F\n\xFF\n");
  CHECK(log.last_lines(2) == Lines{"gr\xC3\xBC\xC3\x9F", "\xFF"});
}

TEST_CASE("A panic is seen wherever its line is split") {
  for (std::size_t split = 0; split <= panic.size(); ++split) {
    CAPTURE(split);
    ConsoleLog log;
    append(log, "before\r\n");
    append(log, panic.substr(0, split));
    append(log, panic.substr(split));
    CHECK(log.panicked());
  }
}

TEST_CASE("A panic is seen when it comes byte by byte") {
  ConsoleLog log;
  for (const char& byte : panic) append(log, {&byte, 1});
  CHECK(log.panicked());
}

TEST_CASE("A panic stays known after its line has left the log") {
  ConsoleLog log;
  append(log, panic);
  append(log, std::string(2 * ConsoleLog::capacity, 'x') + "\n");
  CHECK(log.panicked());
}

TEST_CASE("Words of a panic on two lines are none") {
  ConsoleLog log;
  append(log, "Kernel panic\n - not syncing\n");
  CHECK_FALSE(log.panicked());
}

TEST_CASE("Much output leaves its end and no more than the capacity") {
  ConsoleLog log;
  for (int line = 0; line < 10'000; ++line) append(log, "line " + std::to_string(line) + "\n");
  CHECK(log.last_lines(2) == Lines{"line 9998", "line 9999"});
  std::size_t kept = 0;
  for (const std::string& line : log.last_lines(10'000)) kept += line.size() + 1;
  CHECK(kept <= ConsoleLog::capacity);
  CHECK(kept >= ConsoleLog::capacity / 2 - 16);
}

TEST_CASE("One write beyond the capacity leaves its end") {
  ConsoleLog log;
  append(log, "old\n");
  append(log, std::string(3 * ConsoleLog::capacity, 'x') + "\nlast\n");
  const Lines lines = log.last_lines(10);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].size() <= ConsoleLog::capacity);
  CHECK(lines[1] == "last");
}

TEST_CASE("A panic is seen after a line that filled the log") {
  ConsoleLog log;
  for (int part = 0; part < 100; ++part) append(log, std::string(1000, 'x'));
  append(log, "\n");
  append(log, panic);
  CHECK(log.panicked());
}

}  // namespace
}  // namespace minivm

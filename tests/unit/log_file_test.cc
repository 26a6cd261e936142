#include "vmm/log_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "tests/scratch_directory.h"
#include "vmm/log_pipe.h"
#include "vmm/log_reader.h"
#include "vmm/output_log.h"

namespace minivm {
namespace {

using test::ScratchDirectory;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string read_all(LogReader& reader) {
  std::vector<std::byte> bytes;
  while (reader.read(bytes)) {
  }
  return text_of(bytes);
}

class LogDirectory {
 public:
  int fd() const noexcept { return fd_.get(); }
  const ScratchDirectory scratch;

 private:
  UniqueFd fd_ = open_file(scratch.path(), O_RDONLY | O_DIRECTORY);
};

TEST_CASE("A log keeps its last bytes, and no more than twice its limit") {
  const LogDirectory directory;
  LogFile log(directory.fd(), "x.log", 100);
  for (int i = 0; i < 100; ++i) log.append(bytes_of(fmt::format("line {:03}\n", i)));
  LogReader reader(directory.fd(), "x.log");
  const std::string kept = read_all(reader);
  CHECK(kept.size() <= 200);
  CHECK(kept.size() >= 100);
  CHECK(kept.ends_with("line 098\nline 099\n"));
  CHECK(kept.starts_with("line "));  // what is written at once stays together
  CHECK_FALSE(std::filesystem::exists(directory.scratch.path("x.log.2")));
}

TEST_CASE("A piece that is larger than the limit is kept as it is") {
  const LogDirectory directory;
  LogFile log(directory.fd(), "x.log", 10);
  log.append(bytes_of("before"));
  log.append(bytes_of("longer than all that"));
  LogReader reader(directory.fd(), "x.log");
  CHECK(read_all(reader) == "beforelonger than all that");
}

TEST_CASE("A reader follows a writer through every turn") {
  const LogDirectory directory;
  LogFile log(directory.fd(), "x.log", 64);
  LogReader reader(directory.fd(), "x.log");
  REQUIRE(reader);
  std::string written;
  std::string seen;
  for (int i = 0; i < 200; ++i) {
    const std::string line = fmt::format("{}\n", i);
    log.append(bytes_of(line));
    written += line;
    if (i % 7 == 0) seen += read_all(reader);
  }
  seen += read_all(reader);
  CHECK(seen == written);
}

TEST_CASE("There is no reader of a log that there is not") {
  const LogDirectory directory;
  CHECK_FALSE(LogReader(directory.fd(), "absent.log"));
}

TEST_CASE("A log that cannot be written loses bytes and nothing else") {
  const LogDirectory directory;
  LogFile log(directory.fd(), "x.log");
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{8, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  for (int i = 0; i < 100; ++i) log.append(bytes_of("some words"));
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  log.append(bytes_of("the end"));
  LogReader reader(directory.fd(), "x.log");
  CHECK(read_all(reader).ends_with("the end"));
}

TEST_CASE("A log does not go where a link points") {
  const LogDirectory directory;
  const std::string victim = directory.scratch.write("victim", "data");
  REQUIRE(::symlink(victim.c_str(), directory.scratch.path("x.log").c_str()) == 0);
  CHECK_THROWS_AS(LogFile(directory.fd(), "x.log"), std::system_error);
  CHECK(std::filesystem::file_size(victim) == 4);
}

TEST_CASE("Output keeps its streams apart, in the order in which it came") {
  const LogDirectory directory;
  LogFile log(directory.fd(), "out.log");
  append_output(log, OutputRecord::to_stdout, bytes_of("one"));
  append_output(log, OutputRecord::to_stderr, bytes_of("two"));
  append_output(log, OutputRecord::to_stdout, bytes_of(""));
  LogReader reader(directory.fd(), "out.log");
  std::vector<std::byte> bytes;
  while (reader.read(bytes)) {
  }
  std::string seen;
  const auto visit = [&](std::uint32_t stream, std::span<const std::byte> part) {
    seen += fmt::format("{}:{} ", stream, text_of(part));
  };
  CHECK(for_each_output(bytes, visit) == bytes.size());
  CHECK(seen == "1:one 2:two 1: ");
  seen.clear();
  CHECK(for_each_output(std::span(bytes).first(15), visit) == 11);  // a record that is not there whole waits
  CHECK(seen == "1:one ");
}

TEST_CASE("A header that nobody can have written ends the reading") {
  const std::vector<std::byte> bytes(64, std::byte{0xFF});
  CHECK(for_each_output(bytes, [](std::uint32_t, std::span<const std::byte>) { FAIL("no record"); }) == bytes.size());
}

TEST_CASE("A log pipe hands over what its writers wrote, the rest of it at its end") {
  std::string seen;
  {
    EventLoop loop;
    LogPipe pipe([&](std::span<const std::byte> bytes) { seen += text_of(bytes); });
    UniqueFd writer = pipe.take_writer();
    pipe.watch(loop);
    REQUIRE(::write(writer.get(), "first ", 6) == 6);
    loop.post([&] { loop.post([&] { loop.stop(); }); });
    loop.run();
    CHECK(seen == "first ");
    REQUIRE(::write(writer.get(), "last", 4) == 4);
  }
  CHECK(seen == "first last");
}

TEST_CASE("A log pipe that all writers have left costs its loop nothing more") {
  EventLoop loop;
  int calls = 0;
  LogPipe pipe([&](std::span<const std::byte>) { ++calls; });
  pipe.watch(loop);
  pipe.take_writer();
  int turns = 0;
  std::function<void()> turn = [&] {
    if (++turns == 100) return loop.stop();
    loop.post([&] { turn(); });
  };
  loop.post([&] { turn(); });
  loop.run();
  CHECK(calls == 0);
}

}  // namespace
}  // namespace minivm

#include "vmm/console_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <csignal>
#include <semaphore>
#include <string>
#include <string_view>
#include <thread>

#include "tests/temporary_file.h"

namespace minivm {
namespace {

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

HostFile sink(const UniqueFd& fd) {
  return {UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)), HostFile::Direction::write};
}

struct Pipe {
  Pipe() {
    std::array<int, 2> fds{};
    REQUIRE(::pipe2(fds.data(), O_CLOEXEC) == 0);
    reader.reset(fds[0]);
    writer.reset(fds[1]);
  }
  std::string read(std::size_t size) const {
    std::string text(size, '\0');
    const ssize_t count = ::read(reader.get(), text.data(), size);
    text.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
    return text;
  }
  UniqueFd reader;
  UniqueFd writer;
};

/// Runs all that is posted to the loop so far.
void turn(EventLoop& loop) {
  loop.post([&] { loop.stop(); });
  loop.run();
}

TEST_CASE("What the guest says reaches the file, in order") {
  EventLoop loop;
  const test::TemporaryFile file;
  ConsoleOutput console(loop, {open_file(file.path(), O_WRONLY), HostFile::Direction::write});
  CHECK(console.write(bytes("one ")));
  CHECK(console.write(bytes("two\n")));
  turn(loop);
  CHECK(file.read(0, 100) == "one two\n");
}

TEST_CASE("Without a file the output is only remembered") {
  EventLoop loop;
  ConsoleOutput console(loop, {});
  for (int i = 0; i < 10; ++i) CHECK(console.write(bytes(std::string(ConsoleOutput::max_pending, 'x') + "\n")));
  CHECK(console.write(bytes("last\nKernel panic - not syncing: x\n")));
  CHECK(console.last_lines(2) == std::vector<std::string>{"last", "Kernel panic - not syncing: x"});
  CHECK(console.panicked());
}

TEST_CASE("Closing writes what is pending, and nothing from then on") {
  EventLoop loop;
  const test::TemporaryFile file;
  ConsoleOutput console(loop, {open_file(file.path(), O_WRONLY), HostFile::Direction::write});
  console.write(bytes("before"));
  console.close();
  CHECK(console.write(bytes("after\n")));
  CHECK(file.read(0, 100) == "before");
  CHECK(console.last_lines(1) == std::vector<std::string>{"beforeafter"});
  turn(loop);
  CHECK(file.read(0, 100) == "before");
}

TEST_CASE("A reader who sleeps makes the port busy and bounds what is kept") {
  EventLoop loop;
  const Pipe pipe;
  ::fcntl(pipe.writer.get(), F_SETPIPE_SZ, 4096);
  ConsoleOutput console(loop, sink(pipe.writer));
  int rooms = 0;
  console.on_room([&] { ++rooms; });
  const std::string line = std::string(99, 'x') + "\n";
  std::string said;
  while (console.write(bytes(line)) && said.size() < 10 * ConsoleOutput::max_pending) said += line;
  CHECK(said.size() <= ConsoleOutput::max_pending);
  // What comes all the same is remembered, though not carried.
  CHECK_FALSE(console.write(bytes("too much\n")));
  CHECK(console.last_lines(1) == std::vector<std::string>{"too much"});

  // The reader wakes up: the port is told once that there is room, and nothing that was taken is lost.
  std::string received;
  std::thread reader([&] {
    while (received.size() < ConsoleOutput::max_pending) received += pipe.read(4096);
    loop.post([&] { loop.stop(); });
  });
  loop.run();
  reader.join();
  CHECK(rooms == 1);
  CHECK(received.size() == ConsoleOutput::max_pending);
  CHECK(received.starts_with(said));
  CHECK(console.write(bytes(line)));
}

TEST_CASE("A guest that heeds the busy port loses nothing to a slow reader") {
  EventLoop loop;
  const Pipe pipe;
  ::fcntl(pipe.writer.get(), F_SETPIPE_SZ, 4096);
  ConsoleOutput console(loop, sink(pipe.writer));
  std::binary_semaphore room(0);
  console.on_room([&] { room.release(); });
  std::thread turning([&] { loop.run(); });
  std::string said;
  for (int line = 0; line < 30'000; ++line) said += std::to_string(line) + "\n";
  std::thread guest([&] {
    const auto all = bytes(said);
    for (std::size_t at = 0; at < all.size(); at += 16) {
      if (!console.write(all.subspan(at, std::min<std::size_t>(16, all.size() - at)))) room.acquire();
    }
  });
  std::string received;
  while (received.size() < said.size()) received += pipe.read(4096);
  guest.join();
  loop.stop();
  turning.join();
  CHECK((received == said));
}

TEST_CASE("A reader who is gone does not disturb the guest") {
  ::signal(SIGPIPE, SIG_IGN);  // as minivm does
  EventLoop loop;
  Pipe pipe;
  ConsoleOutput console(loop, sink(pipe.writer));
  pipe.reader.reset();
  CHECK(console.write(bytes("to nobody\n")));
  turn(loop);
  for (int i = 0; i < 10; ++i) CHECK(console.write(bytes(std::string(ConsoleOutput::max_pending, 'x') + "\n")));
  CHECK(console.write(bytes("last\n")));
  CHECK(console.last_lines(1) == std::vector<std::string>{"last"});
}

}  // namespace
}  // namespace minivm

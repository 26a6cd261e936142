#include "base/host_file.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <string>
#include <string_view>

#include "tests/temporary_file.h"

namespace minivm {
namespace {

using Direction = HostFile::Direction;

/// Two ends of something: what is written to `in` comes out at `out`.
struct Ends {
  UniqueFd out;
  UniqueFd in;
};

Ends make_pipe() {
  std::array<int, 2> fds{};
  REQUIRE(::pipe2(fds.data(), O_CLOEXEC) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Ends make_sockets() {
  std::array<int, 2> fds{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

/// `out` is the terminal, `in` its master. Raw, so that bytes pass as they are.
Ends make_terminal() {
  int master = -1;
  int slave = -1;
  termios mode{};
  ::cfmakeraw(&mode);
  REQUIRE(::openpty(&master, &slave, nullptr, &mode, nullptr) == 0);
  return {UniqueFd(slave), UniqueFd(master)};
}

UniqueFd duplicate(const UniqueFd& fd) {
  UniqueFd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  REQUIRE(copy);
  return copy;
}

int flags(const UniqueFd& fd) { return ::fcntl(fd.get(), F_GETFL); }

std::string read(const HostFile& file, std::size_t size = 4096) {
  std::string text(size, '\0');
  const iovec part{text.data(), text.size()};
  const ssize_t count = file.read({&part, 1});
  REQUIRE(count >= 0);
  text.resize(static_cast<std::size_t>(count));
  return text;
}

ssize_t write(const HostFile& file, std::string_view text) {
  const iovec part{const_cast<char*>(text.data()), text.size()};
  return file.write({&part, 1});
}

std::string read_raw(const UniqueFd& fd, std::size_t size = 4096) {
  std::string text(size, '\0');
  const ssize_t count = ::read(fd.get(), text.data(), text.size());
  REQUIRE(count >= 0);
  text.resize(static_cast<std::size_t>(count));
  return text;
}

bool would_block(ssize_t result) { return result == -1 && errno == EAGAIN; }

using Make = Ends (*)();

TEST_CASE("Reading never waits, and leaves the flags that others share alone") {
  const Make make = GENERATE(Make{make_pipe}, Make{make_sockets}, Make{make_terminal});
  const Ends ends = make();
  const int before = flags(ends.out);
  REQUIRE((before & O_NONBLOCK) == 0);
  const HostFile file(duplicate(ends.out), Direction::read);
  std::array<char, 16> space{};
  const iovec part{space.data(), space.size()};
  CHECK(would_block(file.read({&part, 1})));
  REQUIRE(::write(ends.in.get(), "hello", 5) == 5);
  CHECK(read(file) == "hello");
  CHECK(would_block(file.read({&part, 1})));
  CHECK(flags(ends.out) == before);
}

TEST_CASE("Writing to a reader who sleeps never waits, and leaves the flags that others share alone") {
  const Make make = GENERATE(Make{make_pipe}, Make{make_sockets});
  const Ends ends = make();
  const int before = flags(ends.in);
  const HostFile file(duplicate(ends.in), Direction::write);
  const std::string bulk(100'000, 'x');
  std::size_t sent = 0;
  ssize_t count = 0;
  while ((count = write(file, bulk)) > 0) sent += static_cast<std::size_t>(count);
  CHECK(would_block(count));
  CHECK(sent > 0);
  CHECK(flags(ends.in) == before);

  // Once there is room, it goes on where it was.
  std::size_t received = 0;
  while (received < sent) received += read_raw(ends.out, 65536).size();
  CHECK(received == sent);
  CHECK(write(file, "more") == 4);
  CHECK(read_raw(ends.out) == "more");
}

TEST_CASE("Writing to a terminal that nobody reads never waits") {
  const Ends ends = make_terminal();
  const int before = flags(ends.out);
  const HostFile file(duplicate(ends.out), Direction::write);
  const std::string bulk(4096, 'x');
  ssize_t count = 0;
  for (int tries = 0; tries < 10'000 && (count = write(file, bulk)) > 0; ++tries) {
  }
  CHECK(would_block(count));
  CHECK(flags(ends.out) == before);
}

TEST_CASE("A terminal is no other terminal when it is opened again") {
  const Ends ends = make_terminal();
  const HostFile file(duplicate(ends.out), Direction::write);
  REQUIRE(write(file, "to the master") == 13);
  CHECK(read_raw(ends.in) == "to the master");
}

TEST_CASE("The master of a terminal stays itself, and never waits") {
  const Ends ends = make_terminal();
  const HostFile file(duplicate(ends.in), Direction::read);
  std::array<char, 16> space{};
  const iovec part{space.data(), space.size()};
  CHECK(would_block(file.read({&part, 1})));
  REQUIRE(::write(ends.out.get(), "key", 3) == 3);
  CHECK(read(file) == "key");
}

TEST_CASE("The end of the other side is the end of the file") {
  const Make make = GENERATE(Make{make_pipe}, Make{make_sockets});
  Ends ends = make();
  const HostFile file(duplicate(ends.out), Direction::read);
  REQUIRE(::write(ends.in.get(), "last", 4) == 4);
  ends.in.reset();
  CHECK(read(file) == "last");
  CHECK(read(file).empty());
}

TEST_CASE("A socket whose reader is gone gives EPIPE, and no SIGPIPE") {
  Ends ends = make_sockets();
  const HostFile file(duplicate(ends.in), Direction::write);
  ends.out.reset();
  CHECK(write(file, "x") == -1);
  CHECK(errno == EPIPE);
}

TEST_CASE("A regular file is read and written where its description stands") {
  const test::TemporaryFile temporary;
  temporary.write(0, "0123456789");
  const UniqueFd shared = open_file(temporary.path(), O_RDWR);
  REQUIRE(::lseek(shared.get(), 4, SEEK_SET) == 4);
  const HostFile reader(duplicate(shared), Direction::read);
  CHECK(read(reader, 2) == "45");
  const HostFile writer(duplicate(shared), Direction::write);
  CHECK(write(writer, "ab") == 2);
  CHECK(temporary.read(0, 10) == "012345ab89");
  // As a shell's next command would find it.
  CHECK(::lseek(shared.get(), 0, SEEK_CUR) == 8);
  CHECK(read(reader) == "89");
  CHECK(read(reader).empty());
}

TEST_CASE("A file that was opened to append is appended to") {
  const test::TemporaryFile temporary;
  temporary.write(0, "old ");
  const HostFile file(open_file(temporary.path(), O_WRONLY | O_APPEND), Direction::write);
  CHECK(write(file, "new") == 3);
  CHECK(temporary.read(0, 10) == "old new");
}

TEST_CASE("Devices work as they are") {
  const HostFile nothing(open_file("/dev/null", O_RDWR), Direction::read);
  CHECK(read(nothing).empty());
  CHECK(write(nothing, "gone") == 4);
  const HostFile zeros(open_file("/dev/zero", O_RDONLY), Direction::read);
  CHECK(read(zeros, 3) == std::string(3, '\0'));
}

TEST_CASE("Several parts are one read and one write") {
  const Ends ends = make_sockets();
  const HostFile sink(duplicate(ends.in), Direction::write);
  std::string first = "one ";
  std::string second = "two";
  const std::array from{iovec{first.data(), first.size()}, iovec{nullptr, 0}, iovec{second.data(), second.size()}};
  CHECK(sink.write(from) == 7);
  const HostFile source(duplicate(ends.out), Direction::read);
  std::array<char, 3> left{};
  std::array<char, 10> right{};
  const std::array to{iovec{left.data(), left.size()}, iovec{right.data(), right.size()}};
  CHECK(source.read(to) == 7);
  CHECK(std::string_view(left.data(), 3) == "one");
  CHECK(std::string_view(right.data(), 4) == " two");
}

TEST_CASE("More parts than one system call takes are no error") {
  const Ends ends = make_pipe();
  const HostFile sink(duplicate(ends.in), Direction::write);
  char byte = 'x';
  const std::vector<iovec> parts(5000, iovec{&byte, 1});
  CHECK(sink.write(parts) > 0);
}

TEST_CASE("A descriptor that is none is an error that is thrown") {
  CHECK_THROWS_AS(HostFile(UniqueFd(), Direction::read), std::system_error);
}

TEST_CASE("No file at all is empty") { CHECK_FALSE(static_cast<bool>(HostFile())); }

}  // namespace
}  // namespace minivm

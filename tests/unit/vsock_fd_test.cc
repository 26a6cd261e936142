#include "devices/virtio/vsock_fd.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <future>
#include <string>
#include <thread>

#include "tests/vsock_guest.h"

using namespace minivm;
using namespace minivm::virtio;
using minivm::test::VsockGuest;

namespace {

constexpr std::uint32_t port = 6000;
constexpr std::uint32_t guest_port = 1024;
constexpr std::uint32_t both = vsock::shutdown_receive | vsock::shutdown_send;
constexpr std::size_t bulk = 64 << 20;

struct Pipe {
  Pipe() {
    std::array<int, 2> fds{};
    REQUIRE(::pipe2(fds.data(), O_CLOEXEC) == 0);
    read.reset(fds[0]);
    write.reset(fds[1]);
  }
  UniqueFd read;
  UniqueFd write;
};

char pattern(std::size_t position) { return static_cast<char>((position * 2654435761U) >> 13); }

std::string pattern_bytes(std::size_t from, std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = pattern(from + i);
  return bytes;
}

std::string read_some(int fd, std::size_t size) {
  std::string bytes(size, '\0');
  const ssize_t got = ::read(fd, bytes.data(), size);
  bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return bytes;
}

std::string read_exactly(int fd, std::size_t size) {
  std::string bytes;
  while (bytes.size() < size) {
    const std::string more = read_some(fd, size - bytes.size());
    if (more.empty()) break;
    bytes += more;
  }
  return bytes;
}

/// A connection of the guest whose host end is a pair of files; the guest keeps to its credit.
struct Fixture {
  Fixture() { ::signal(SIGPIPE, SIG_IGN); }

  void connect(UniqueFd source, UniqueFd sink) {
    HostFile from = source ? HostFile(std::move(source), HostFile::Direction::read) : HostFile();
    HostFile to = sink ? HostFile(std::move(sink), HostFile::Direction::write) : HostFile();
    guest.on_loop([&] {
      guest.device.listen(port, [&](std::uint32_t) {
        return make_fd_endpoint(guest.loop, std::move(from), std::move(to), [&](int error) { done.set_value(error); });
      });
    });
    guest.post_rx();
    guest.send(guest.header(vsock::op_request, guest_port, port));
    const auto answer = guest.receive();
    REQUIRE(answer);
    REQUIRE(answer->header.op == vsock::op_response);
    note(*answer);
  }

  void note(const VsockGuest::Packet& packet) {
    host_buf_alloc = packet.header.buf_alloc;
    host_fwd_cnt = packet.header.fwd_cnt;
    if (packet.header.op == vsock::op_rw) {
      received += packet.payload.size();
    } else if (packet.header.op == vsock::op_shutdown) {
      host_flags |= packet.header.flags;
    } else if (packet.header.op == vsock::op_rst) {
      reset = true;
    }
  }
  std::size_t room() const { return host_buf_alloc - (static_cast<std::uint32_t>(sent) - host_fwd_cnt); }

  VsockGuest::Header header(std::uint16_t op, std::size_t len = 0) {
    auto result = guest.header(op, guest_port, port, static_cast<std::uint32_t>(len));
    result.fwd_cnt = static_cast<std::uint32_t>(received);
    return result;
  }
  /// Sends what credit and ring allow of the bulk pattern.
  void send_pattern(std::size_t end) {
    bool queued = false;
    while (sent < end && room() > 0) {
      const std::size_t size = std::min({room(), end - sent, std::size_t{65536}});
      if (!guest.queue(header(vsock::op_rw, size), pattern_bytes(sent, size))) break;
      sent += size;
      queued = true;
    }
    if (queued) guest.notify_tx();
  }
  void send(std::string_view bytes) {
    guest.send(header(vsock::op_rw, bytes.size()), bytes);
    sent += bytes.size();
  }
  void shutdown(std::uint32_t flags) { guest.shutdown(guest_port, port, flags); }
  /// The next bytes from the host; empty at its end of stream or at RST.
  std::string receive() {
    while (!reset && (host_flags & vsock::shutdown_send) == 0) {
      const auto packet = guest.receive();
      REQUIRE(packet);
      note(*packet);
      if (packet->header.op == vsock::op_rw) return packet->payload;
    }
    return {};
  }
  void expect_reset() {
    while (!reset) {
      const auto packet = guest.receive();
      REQUIRE(packet);
      note(*packet);
    }
  }
  int done_error() { return done.get_future().get(); }

  std::promise<int> done;
  std::size_t sent = 0;
  std::size_t received = 0;
  std::uint32_t host_buf_alloc = 0;
  std::uint32_t host_fwd_cnt = 0;
  std::uint32_t host_flags = 0;
  bool reset = false;
  VsockGuest guest;
};

}  // namespace

TEST_CASE("64 MiB go from the guest into a pipe whose reader is slow, byte for byte") {
  Pipe pipe;
  std::size_t read = 0;
  bool equal = true;
  std::jthread reader([&] {
    for (std::string bytes; !(bytes = read_some(pipe.read.get(), 100'000)).empty(); read += bytes.size()) {
      equal = equal && bytes == pattern_bytes(read, bytes.size());
      if (read % 64 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  Fixture fixture;  // gone before the reader is waited for: it holds the writing end
  fixture.connect({}, std::move(pipe.write));
  while (fixture.sent < bulk) {
    fixture.send_pattern(bulk);
    if (fixture.room() > 0) {
      while (const auto packet = fixture.guest.poll_packet()) fixture.note(*packet);
    } else {
      const auto packet = fixture.guest.receive();
      REQUIRE(packet);
      fixture.note(*packet);
    }
  }
  fixture.shutdown(both);
  fixture.expect_reset();
  CHECK(fixture.done_error() == 0);
  reader.join();
  CHECK(read == bulk);
  CHECK(equal);
}

TEST_CASE("64 MiB go from a pipe to a guest that announces its room") {
  Pipe pipe;
  std::jthread writer([fd = std::move(pipe.write)] {
    ::signal(SIGPIPE, SIG_IGN);
    for (std::size_t written = 0; written < bulk;) {
      const std::string bytes = pattern_bytes(written, std::min<std::size_t>(bulk - written, 100'000));
      const ssize_t size = ::write(fd.get(), bytes.data(), bytes.size());
      if (size <= 0) break;
      written += static_cast<std::size_t>(size);
    }
  });
  Fixture fixture;  // gone before the writer is waited for: it holds the reading end
  fixture.connect(std::move(pipe.read), {});
  bool equal = true;
  std::size_t told = 0;
  for (std::string bytes; !(bytes = fixture.receive()).empty();) {
    equal = equal && bytes == pattern_bytes(fixture.received - bytes.size(), bytes.size());
    if (fixture.received - told < VsockGuest::buf_alloc / 2) continue;
    told = fixture.received;
    while (!fixture.guest.queue(fixture.header(vsock::op_credit_update))) {
    }
    fixture.guest.notify_tx();
  }
  CHECK(fixture.received == bulk);
  CHECK(equal);
  CHECK(fixture.host_flags == vsock::shutdown_send);
  fixture.shutdown(both);
  fixture.expect_reset();
  CHECK(fixture.done_error() == 0);
}

TEST_CASE("a reader that pauses stops the guest, which loses nothing and costs no more than its credit (rule 37)") {
  Fixture fixture;
  Pipe pipe;
  const int pipe_size = ::fcntl(pipe.write.get(), F_GETPIPE_SZ);
  fixture.connect({}, std::move(pipe.write));
  std::size_t before = 1;
  while (before != fixture.sent) {
    before = fixture.sent;
    fixture.send_pattern(bulk);
    fixture.guest.settle();
    while (const auto packet = fixture.guest.poll_packet()) fixture.note(*packet);
  }
  CHECK(fixture.sent <= VsockConnection::buf_alloc + static_cast<std::size_t>(pipe_size));
  CHECK(fixture.sent >= VsockConnection::buf_alloc);
  fixture.shutdown(both);
  CHECK(read_exactly(pipe.read.get(), fixture.sent) == pattern_bytes(0, fixture.sent));
  fixture.expect_reset();
  CHECK(fixture.done_error() == 0);
  CHECK(read_some(pipe.read.get(), 1).empty());
}

TEST_CASE("one socket is both ends, and half-closes go through it both ways") {
  Fixture fixture;
  std::array<int, 2> fds{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
  const UniqueFd peer(fds[0]);
  fixture.connect(UniqueFd(fds[1]), UniqueFd(::fcntl(fds[1], F_DUPFD_CLOEXEC, 0)));
  REQUIRE(::write(peer.get(), "ping", 4) == 4);
  CHECK(fixture.receive() == "ping");
  fixture.send("pong");
  CHECK(read_exactly(peer.get(), 4) == "pong");
  SECTION("the guest's first") {
    fixture.shutdown(vsock::shutdown_send);
    CHECK(read_some(peer.get(), 1).empty());
    REQUIRE(::write(peer.get(), "tail", 4) == 4);
    CHECK(fixture.receive() == "tail");
    REQUIRE(::shutdown(peer.get(), SHUT_WR) == 0);
  }
  SECTION("the host's first") {
    REQUIRE(::shutdown(peer.get(), SHUT_WR) == 0);
    CHECK(fixture.receive().empty());
    CHECK(fixture.host_flags == vsock::shutdown_send);
    fixture.send("tail");
    CHECK(read_exactly(peer.get(), 4) == "tail");
    fixture.shutdown(vsock::shutdown_send);
  }
  fixture.expect_reset();
  CHECK(fixture.done_error() == 0);
  CHECK(read_some(peer.get(), 1).empty());
}

TEST_CASE("a peer that leaves altogether ends both directions") {
  Fixture fixture;
  std::array<int, 2> fds{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
  UniqueFd peer(fds[0]);
  fixture.connect(UniqueFd(fds[1]), UniqueFd(::fcntl(fds[1], F_DUPFD_CLOEXEC, 0)));
  REQUIRE(::write(peer.get(), "last words", 10) == 10);
  peer.reset();
  CHECK(fixture.receive() == "last words");
  fixture.expect_reset();
  CHECK(fixture.done_error() == EPIPE);
}

TEST_CASE("a regular file is read to its end and written in order") {
  Fixture fixture;
  UniqueFd source(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  UniqueFd sink(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  REQUIRE(source);
  REQUIRE(sink);
  const std::string content = pattern_bytes(0, 200'000);
  REQUIRE(::pwrite(source.get(), content.data(), content.size(), 0) == 200'000);
  const UniqueFd written(::dup(sink.get()));
  fixture.connect(std::move(source), std::move(sink));
  std::string got;
  for (std::string bytes; !(bytes = fixture.receive()).empty();) got += bytes;
  CHECK(got == content);
  fixture.send_pattern(150'000);
  fixture.shutdown(vsock::shutdown_send);
  fixture.expect_reset();
  CHECK(fixture.done_error() == 0);
  std::string stored(150'000, '\0');
  CHECK(::pread(written.get(), stored.data(), stored.size(), 0) == 150'000);
  CHECK(stored == pattern_bytes(0, 150'000));
}

TEST_CASE("a full device breaks the sink with its error, and the guest's writer learns it") {
  Fixture fixture;
  fixture.connect({}, open_file("/dev/full", O_WRONLY));
  fixture.send("does not fit");
  CHECK(fixture.done_error() == ENOSPC);
  fixture.expect_reset();
}

TEST_CASE("a pipe without a reader breaks the sink with EPIPE") {
  Fixture fixture;
  Pipe pipe;
  Pipe input;
  const bool has_source = GENERATE(false, true);
  fixture.connect(has_source ? std::move(input.read) : UniqueFd(), std::move(pipe.write));
  fixture.send("one");
  CHECK(read_exactly(pipe.read.get(), 3) == "one");
  pipe.read.reset();
  fixture.send("two");
  CHECK(fixture.done_error() == EPIPE);
  if (has_source) {
    // Only this direction is over.
    REQUIRE(::write(input.write.get(), "in", 2) == 2);
    CHECK(fixture.receive() == "in");
    CHECK(fixture.host_flags == vsock::shutdown_receive);
    input.write.reset();
  }
  fixture.expect_reset();
}

TEST_CASE("/dev/null takes everything and gives nothing") {
  Fixture fixture;
  fixture.connect(open_file("/dev/null", O_RDONLY), open_file("/dev/null", O_WRONLY));
  CHECK(fixture.receive().empty());
  fixture.send_pattern(200'000);
  fixture.shutdown(both);
  fixture.expect_reset();
  CHECK(fixture.done_error() == 0);
}

TEST_CASE("a guest that drops the connection leaves its output cut off") {
  Fixture fixture;
  Pipe pipe;
  fixture.connect({}, std::move(pipe.write));
  fixture.send("partial");
  fixture.guest.send(fixture.header(vsock::op_rst));
  CHECK(fixture.done_error() == ECONNRESET);
  CHECK(read_exactly(pipe.read.get(), 100) == "partial");
}

TEST_CASE("a terminal is source and sink, its hang-up is the end, and its flags stay the caller's") {
  Fixture fixture;
  int master_fd = -1;
  int slave_fd = -1;
  REQUIRE(::openpty(&master_fd, &slave_fd, nullptr, nullptr, nullptr) == 0);
  UniqueFd master(master_fd);
  const UniqueFd callers(slave_fd);
  termios raw{};
  REQUIRE(::tcgetattr(callers.get(), &raw) == 0);
  ::cfmakeraw(&raw);
  REQUIRE(::tcsetattr(callers.get(), TCSANOW, &raw) == 0);
  fixture.connect(UniqueFd(::dup(callers.get())), UniqueFd(::dup(callers.get())));
  CHECK((::fcntl(callers.get(), F_GETFL) & O_NONBLOCK) == 0);
  REQUIRE(::write(master.get(), "typed", 5) == 5);
  CHECK(fixture.receive() == "typed");
  fixture.send("shown");
  CHECK(read_exactly(master.get(), 5) == "shown");
  master.reset();
  CHECK(fixture.receive().empty());
  CHECK(fixture.host_flags == vsock::shutdown_send);
  fixture.send("too late");
  CHECK(fixture.done_error() == EIO);
  fixture.expect_reset();
}

TEST_CASE("a source that is never used up is read no further once the guest stops reading (rule 41)") {
  Fixture fixture;
  Pipe pipe;
  fixture.connect(std::move(pipe.read), {});
  fixture.shutdown(vsock::shutdown_receive);
  fixture.guest.settle();
  // The endpoint held the only reading end.
  CHECK(::write(pipe.write.get(), "x", 1) == -1);
  CHECK(errno == EPIPE);
  fixture.shutdown(vsock::shutdown_send);
  fixture.expect_reset();
  CHECK(fixture.done_error() == 0);
}

#pragma once

#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "freestanding/mapping.h"
#include "guest-init/exec_server.h"
#include "guest-init/image.h"
#include "guest-init/settings.h"
#include "protocol/frame.h"
#include "protocol/messages.h"

/// The exec server as PID 1 runs it, in a process of its own; Unix sockets take the place of vsock. Every wait has a
/// deadline, so that a hang becomes a failure.
namespace minivm::test {

using namespace protocol;
using guest::ExecServer;

using Strings = std::vector<std::string>;

inline constexpr std::uint32_t first_stream_port = 0x1'0000;

inline sockaddr_un address_of(std::uint32_t port, pid_t owner) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = "minivm-test-" + std::to_string(owner) + "-" + std::to_string(port);
  std::memcpy(address.sun_path + 1, name.data(), name.size());  // abstract: leaves nothing behind
  return address;
}

/// Runs in the server's process, whose parent listens: here the stream is fetched, where the host's would have come.
inline int take_test_stream(int, std::uint32_t port) noexcept {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const sockaddr_un address = address_of(port, getppid());
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  const int error = errno;
  close(fd);
  return -error;
}

/// The guest's real PID 1, as its own program.
inline int own_program() {
  const auto image = init_image();
  const int file = memfd_create("init", MFD_CLOEXEC);
  return write(file, image.data(), image.size()) == static_cast<ssize_t>(image.size()) ? file : -1;
}

inline void wait_readable(int fd) {
  pollfd wanted{fd, POLLIN, 0};
  if (poll(&wanted, 1, 60'000) <= 0) throw std::runtime_error("nothing came in time");
}

/// A host port from which the guest takes a stream, once.
class Listener {
 public:
  explicit Listener(std::uint32_t port) : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_un address = address_of(port, getpid());
    REQUIRE(bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    REQUIRE(listen(socket_.get(), 4) == 0);
  }
  Fd accept() {
    wait_readable(socket_.get());
    return Fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }

 private:
  Fd socket_;
};

inline void write_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t count = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (count <= 0) return;  // the program stopped reading
    data.remove_prefix(static_cast<std::size_t>(count));
  }
}

inline std::string read_to_end(int fd) {
  std::string data;
  std::array<char, 65536> buffer;
  for (;;) {
    wait_readable(fd);
    const ssize_t count = read(fd, buffer.data(), buffer.size());
    if (count <= 0) return data;
    data.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

/// Reads until `text` was seen.
inline std::string read_until(int fd, std::string_view text) {
  std::string data;
  while (data.find(text) == data.npos) {
    char buffer[4096];
    wait_readable(fd);
    const ssize_t count = read(fd, buffer, sizeof(buffer));
    if (count <= 0) throw std::runtime_error("ended before '" + std::string(text) + "': " + data);
    data.append(buffer, static_cast<std::size_t>(count));
  }
  return data;
}

struct Answer {
  FrameHeader header;
  std::vector<std::byte> payload;
};

struct Result {
  bool started = false;
  ExecFailed failed;
  Exited exited;
  std::string out;
  std::string err;
};

class Guest {
 public:
  Guest() {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    control_.reset(ends[0]);
    server_ = fork();
    if (server_ == 0) {
      close(ends[0]);
      serve(ends[1]);
    }
    close(ends[1]);
  }

  /// The server must go in order when the host does.
  ~Guest() {
    control_.reset();
    if (server_ > 0) waitpid(server_, nullptr, 0);
  }

  ExecServer::End end() {
    int status = 0;
    waitpid(std::exchange(server_, -1), &status, 0);
    REQUIRE(WIFEXITED(status));
    return static_cast<ExecServer::End>(WEXITSTATUS(status));
  }

  template <typename Message>
  void send(FrameType type, std::uint32_t id, const Message& message) {
    std::vector<std::byte> buffer(FrameHeader::size + FrameHeader::max_payload);
    const auto frame = encode_frame(buffer, type, id, message);
    REQUIRE_FALSE(frame.empty());
    send_raw(frame);
  }
  void send_raw(std::span<const std::byte> bytes) {
    write_all(control_.get(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  void hang_up() { control_.reset(); }

  Answer receive() {
    std::array<std::byte, FrameHeader::size> bytes;
    receive_exactly(bytes);
    Answer answer{*FrameHeader::decode(bytes), {}};
    answer.payload.resize(answer.header.length);
    receive_exactly(answer.payload);
    return answer;
  }
  /// The next answer to `id`; those of others are kept.
  Answer receive(std::uint32_t id) {
    const auto kept = std::find_if(kept_.begin(), kept_.end(), [&](const Answer& a) { return a.header.id == id; });
    if (kept != kept_.end()) {
      Answer answer = *kept;
      kept_.erase(kept);
      return answer;
    }
    for (;;) {
      Answer answer = receive();
      if (answer.header.id == id) return answer;
      kept_.push_back(std::move(answer));
    }
  }

  bool has_answer() {
    pollfd wanted{control_.get(), POLLIN, 0};
    return !kept_.empty() || poll(&wanted, 1, 0) > 0;
  }

  std::uint32_t next_port() { return port_++; }
  std::uint32_t next_id() { return id_++; }
  pid_t server() const { return server_; }

 private:
  [[noreturn]] static void serve(int control) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    guest::block_signals();
    guest::let_others_go_first();
    Mapping memory(sizeof(ExecServer));
    auto* server = new (memory.bytes().data()) ExecServer(Fd(control), Fd(), take_test_stream, -1, own_program(), {});
    _exit(static_cast<int>(server->run()));
  }
  void receive_exactly(std::span<std::byte> bytes) {
    while (!bytes.empty()) {
      wait_readable(control_.get());
      const ssize_t count = read(control_.get(), bytes.data(), bytes.size());
      if (count <= 0) throw std::runtime_error("the server went away");
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  }

  Fd control_;
  pid_t server_ = -1;
  std::uint32_t port_ = first_stream_port;
  std::uint32_t id_ = 1;
  std::deque<Answer> kept_;
};

/// One exec with all of its streams.
class Run {
 public:
  struct Options {
    Strings env{};
    std::string user{};
    std::string directory{};
    std::uint32_t flags = 0;
    std::string program{};  // to upload
    bool has_input = true;
    std::uint16_t rows = 24;
    std::uint16_t columns = 80;
    std::uint32_t umask = Exec::default_umask;
    std::vector<ResourceLimit> limits{};
    std::string interpreter{};
    Strings libraries{};
  };

  Run(Guest& guest, const Strings& argv) : Run(guest, argv, Options{}) {}
  Run(Guest& guest, const Strings& argv, const Options& options) : guest_(guest), id_(guest.next_id()) {
    const bool tty = (options.flags & Exec::tty) != 0;
    Exec fixed;
    fixed.flags = options.flags;
    fixed.user = options.user;
    fixed.directory = options.directory;
    fixed.rows = options.rows;
    fixed.columns = options.columns;
    fixed.program_size = options.program.size();
    fixed.umask = options.umask;
    for (const ResourceLimit& limit : options.limits) fixed.limits.add(limit);
    fixed.interpreter = options.interpreter;
    if (options.has_input) fixed.stdin_port = listen_next();
    if (!tty) fixed.stdout_port = listen_next();
    if (!tty) fixed.stderr_port = listen_next();
    if ((options.flags & Exec::upload) != 0) fixed.program_port = listen_next();
    guest.send(FrameType::exec, id_, ExecRequest<Strings>{fixed, argv, options.env, &options.libraries});
    auto listener = listeners_.begin();
    try {
      if (options.has_input) in = (listener++)->accept();
      if (!tty) out = (listener++)->accept();
      if (!tty) err = (listener++)->accept();
      if ((options.flags & Exec::upload) != 0) write_all((listener++)->accept().get(), options.program);
    } catch (const std::runtime_error&) {
      FAIL("the guest did not take its streams");
    }
  }

  pid_t started() {
    const Answer answer = guest_.receive(id_);
    REQUIRE(answer.header.type == FrameType::started);
    return static_cast<pid_t>(Started::decode(Reader(answer.payload))->pid);
  }
  Exited exited() {
    const Answer answer = guest_.receive(id_);
    REQUIRE(answer.header.type == FrameType::exited);
    return *Exited::decode(Reader(answer.payload));
  }
  ExecFailed failed() {
    const Answer answer = guest_.receive(id_);
    REQUIRE(answer.header.type == FrameType::exec_failed);
    return *ExecFailed::decode(Reader(answer.payload));
  }

  Result finish(std::string_view input = "") {
    Result result;
    std::thread writer([&] {
      if (!in) return;
      write_all(in.get(), input);
      shutdown(in.get(), SHUT_WR);
    });
    std::thread errors([&] { result.err = read_to_end(err.get()); });
    result.out = read_to_end(out.get());
    writer.join();
    errors.join();
    started();
    result.started = true;
    result.exited = exited();
    return result;
  }

  std::uint32_t id() const { return id_; }

  Fd in;
  Fd out;
  Fd err;

 private:
  std::uint32_t listen_next() {
    const std::uint32_t port = guest_.next_port();
    listeners_.emplace_back(port);
    return port;
  }

  Guest& guest_;
  std::uint32_t id_;
  std::vector<Listener> listeners_;
};

inline Strings shell(std::string script) { return {"sh", "-c", std::move(script)}; }

/// A failure before the streams are taken: none are offered.
inline ExecFailed refused(Guest& guest, Exec fixed, const Strings& argv) {
  const std::uint32_t id = guest.next_id();
  guest.send(FrameType::exec, id, ExecRequest<Strings>{fixed, argv, {}});
  const Answer answer = guest.receive(id);
  REQUIRE(answer.header.type == FrameType::exec_failed);
  return *ExecFailed::decode(Reader(answer.payload));
}

inline std::string pattern(std::size_t size) {
  std::string data(size, '\0');
  for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<char>(i * 31 + (i >> 16));
  return data;
}

}  // namespace minivm::test

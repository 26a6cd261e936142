#include "guest-init/exec_server.h"

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

#include "guest-init/mapping.h"
#include "guest-init/settings.h"
#include "protocol/frame.h"
#include "protocol/messages.h"

// The exec server as PID 1 runs it, in a process of its own; Unix sockets take the place of vsock.

using namespace minivm::protocol;
using minivm::guest::ExecServer;
using minivm::guest::Fd;

namespace {

using Strings = std::vector<std::string>;
using Clock = std::chrono::steady_clock;

/// Nothing here may take longer; a hang becomes a failure that names itself.
constexpr auto patience = std::chrono::seconds(60);

sockaddr_un address_of(std::uint32_t port, pid_t owner) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = "minivm-test-" + std::to_string(owner) + "-" + std::to_string(port);
  std::memcpy(address.sun_path + 1, name.data(), name.size());  // abstract: leaves nothing behind
  return address;
}

/// Runs in the server's process, whose parent listens.
int dial_test(std::uint32_t port) noexcept {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const sockaddr_un address = address_of(port, getppid());
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  const int error = errno;
  close(fd);
  return -error;
}

void wait_readable(int fd) {
  pollfd wanted{fd, POLLIN, 0};
  if (poll(&wanted, 1, 60'000) <= 0) throw std::runtime_error("nothing came in time");
}

/// A host port that the guest dials once.
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

void write_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t count = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (count <= 0) return;  // the program stopped reading
    data.remove_prefix(static_cast<std::size_t>(count));
  }
}

std::string read_to_end(int fd) {
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
std::string read_until(int fd, std::string_view text) {
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
    minivm::guest::block_signals();
    minivm::guest::Mapping memory(sizeof(ExecServer));
    auto* server = new (memory.bytes().data()) ExecServer(Fd(control), dial_test, -1);
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
    if (options.has_input) fixed.stdin_port = listen_next();
    if (!tty) fixed.stdout_port = listen_next();
    if (!tty) fixed.stderr_port = listen_next();
    if ((options.flags & Exec::upload) != 0) fixed.program_port = listen_next();
    guest.send(FrameType::exec, id_, ExecRequest<Strings>{fixed, argv, options.env});
    auto listener = listeners_.begin();
    try {
      if (options.has_input) in = (listener++)->accept();
      if (!tty) out = (listener++)->accept();
      if (!tty) err = (listener++)->accept();
      if ((options.flags & Exec::upload) != 0) write_all((listener++)->accept().get(), options.program);
    } catch (const std::runtime_error&) {
      FAIL("the guest did not dial");
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

Strings shell(std::string script) { return {"sh", "-c", std::move(script)}; }

/// A failure before the streams are dialled: none are offered.
ExecFailed refused(Guest& guest, Exec fixed, const Strings& argv) {
  const std::uint32_t id = guest.next_id();
  guest.send(FrameType::exec, id, ExecRequest<Strings>{fixed, argv, {}});
  const Answer answer = guest.receive(id);
  REQUIRE(answer.header.type == FrameType::exec_failed);
  return *ExecFailed::decode(Reader(answer.payload));
}

std::string pattern(std::size_t size) {
  std::string data(size, '\0');
  for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<char>(i * 31 + (i >> 16));
  return data;
}

}  // namespace

TEST_CASE("a program's output arrives apart, with its exit code") {
  Guest guest;
  const Result result = Run(guest, shell("echo out; echo err >&2; exit 3")).finish();
  CHECK(result.out == "out\n");
  CHECK(result.err == "err\n");
  CHECK(result.exited.flags == 0);
  CHECK(result.exited.value == 3);
}

TEST_CASE("a program that ends by a signal is told from one that exits") {
  Guest guest;
  const Result result = Run(guest, shell("kill -SEGV $$")).finish();
  CHECK(result.exited.flags == Exited::by_signal);
  CHECK(result.exited.value == SIGSEGV);
}

TEST_CASE("the end of stdin is a half-close: the program still answers") {
  Guest guest;
  const Result result = Run(guest, shell("cat; echo after")).finish("x");
  CHECK(result.out == "xafter\n");
  CHECK(result.exited.value == 0);
}

TEST_CASE("bytes of every size flow through unchanged") {
  const std::size_t size = GENERATE(as<std::size_t>{}, 0, 1, 4096, 65536, 65537, 64 * 1024 * 1024);
  Guest guest;
  const std::string input = pattern(size);
  const Result result = Run(guest, {"cat"}).finish(input);
  CHECK(result.out.size() == size);
  CHECK((result.out == input));
  CHECK(result.exited.value == 0);
}

TEST_CASE("the exit does not wait for a background process that holds the pipes") {
  Guest guest;
  Run run(guest, shell("sleep 1000 & echo $!; exit 5"));
  const Result result = run.finish();
  CHECK(result.exited.value == 5);
  const pid_t background = std::stoi(result.out);
  CHECK(kill(background, 0) == 0);
  kill(background, SIGKILL);
}

TEST_CASE("all output before the exit is sent, though the reader is slow") {
  Guest guest;
  Run run(guest, shell("head -c 300000 /dev/zero; echo end >&2; exit 3"));
  const std::string out = read_to_end(run.out.get());
  CHECK(out.size() == 300'000);
  run.started();
  CHECK(read_to_end(run.err.get()) == "end\n");
  CHECK(run.exited().value == 3);
}

TEST_CASE("a reader that pauses stops the writer, and only that one") {
  Guest guest;
  Run paused(guest, shell("head -c 8000000 /dev/zero"));
  const pid_t pid = paused.started();
  CHECK(Run(guest, {"echo", "other"}).finish().out == "other\n");
  CHECK(kill(pid, 0) == 0);
  CHECK(read_to_end(paused.out.get()).size() == 8'000'000);
  CHECK(paused.exited().value == 0);
}

TEST_CASE("a program that closes its stdin is not disturbed by more of it") {
  Guest guest;
  const Result result = Run(guest, shell("exec <&-; sleep 0.2; echo fine")).finish(pattern(1'000'000));
  CHECK(result.out == "fine\n");
  CHECK(result.exited.value == 0);
}

TEST_CASE("a writer whose reader left gets SIGPIPE") {
  Guest guest;
  Run run(guest, {"yes"});
  run.started();
  run.out.reset();
  const Exited exited = run.exited();
  CHECK(exited.flags == Exited::by_signal);
  CHECK(exited.value == SIGPIPE);
}

TEST_CASE("a reader that left is noticed while the program is silent") {
  Guest guest;
  // The pipe's only reader is the server; once it closes its end, poll says so without any write.
  Run run(guest, {"python3", "-c",
                  "import select; p = select.poll(); p.register(1, 0); print(p.poll(50000), file=2 "
                  "and __import__('sys').stderr)"});
  run.started();
  run.out.reset();
  CHECK(read_to_end(run.err.get()).find("(1, 8)") != std::string::npos);  // POLLERR
  CHECK(run.exited().value == 0);
}

TEST_CASE("streams without a port are /dev/null") {
  Guest guest;
  Exec fixed;
  const std::uint32_t id = guest.next_id();
  guest.send(FrameType::exec, id, ExecRequest<Strings>{fixed, shell("cat && echo lost && exit 4"), {}});
  CHECK(guest.receive(id).header.type == FrameType::started);
  CHECK(Exited::decode(Reader(guest.receive(id).payload))->value == 4);
}

TEST_CASE("/dev/stdout and /dev/stderr can be opened again") {
  Guest guest;
  const Result result = Run(guest, shell("echo a > /dev/stdout; echo b > /dev/stderr")).finish();
  CHECK(result.out == "a\n");
  CHECK(result.err == "b\n");
}

TEST_CASE("a program that cannot be executed is told with the reason") {
  Guest guest;
  const auto fails_with = [&](const std::string& name, int error) {
    Run run(guest, {name});
    const ExecFailed failed = run.failed();
    CHECK(failed.step == ExecStep::execute);
    CHECK(failed.error == static_cast<std::uint32_t>(error));
  };
  fails_with("no-such-program", ENOENT);
  fails_with("/no/such/program", ENOENT);
  fails_with("", ENOENT);
  fails_with("/", EACCES);
  fails_with("/etc/passwd", EACCES);
  CHECK(Run(guest, {"true"}).finish().exited.value == 0);
}

TEST_CASE("a file without a known format is told as such and not given to a shell") {
  const std::string path = "/tmp/minivm-test-format-" + std::to_string(getpid());
  std::ofstream(path) << "echo no\n";
  chmod(path.c_str(), 0755);
  Guest guest;
  Run run(guest, {path});
  CHECK(run.failed().error == ENOEXEC);
  unlink(path.c_str());
}

TEST_CASE("the program is looked up in the request's own PATH") {
  Guest guest;
  Run::Options options;
  options.env = {"PATH=/nowhere"};
  Run missing(guest, {"cat"}, options);
  CHECK(missing.failed().error == ENOENT);
  options.env = {"PATH=/nowhere:/usr/bin:/bin"};
  CHECK(Run(guest, {"cat"}, options).finish("x").out == "x");
}

TEST_CASE("the environment is the request's, with what every program needs added") {
  Guest guest;
  Run::Options options;
  options.env = {"A=1", "HOME=/elsewhere"};
  const std::string out = Run(guest, {"env"}, options).finish().out;
  CHECK(out.find("A=1\n") == 0);
  CHECK(out.find("HOME=/elsewhere\n") != out.npos);
  CHECK(out.find("PATH=/usr/local/sbin:") != out.npos);
  CHECK(out.find("USER=root\n") != out.npos);
  CHECK(out.find("LOGNAME=root\n") != out.npos);
  CHECK(out.find("SHELL=/") != out.npos);
  CHECK(out.find("TERM=") == out.npos);
  CHECK(std::count(out.begin(), out.end(), '\n') == 6);
}

TEST_CASE("the directory is the request's, and one that is missing is told") {
  Guest guest;
  Run::Options options;
  options.directory = "/usr";
  CHECK(Run(guest, {"pwd"}, options).finish().out == "/usr\n");
  options.directory = "/no/such";
  const ExecFailed failed = Run(guest, {"pwd"}, options).failed();
  CHECK(failed.step == ExecStep::directory);
  CHECK(failed.error == ENOENT);
}

TEST_CASE("a user that does not exist is told before anything is dialled") {
  Guest guest;
  Exec fixed;
  fixed.user = "no-such-user";
  const ExecFailed failed = refused(guest, fixed, {"true"});
  CHECK(failed.step == ExecStep::user);
  CHECK(failed.error == ENOENT);
}

TEST_CASE("a program runs as the user it was asked for") {
  if (geteuid() != 0) {
    WARN("needs root to become another user");
    return;
  }
  Guest guest;
  Run::Options options;
  options.user = "daemon";
  const std::string out = Run(guest, shell("id -u; id -g; echo $USER; echo ok > /dev/stdout"), options).finish().out;
  CHECK(out == "1\n1\ndaemon\nok\n");
  options.user = "4711:4712";
  CHECK(Run(guest, shell("id -u; id -G"), options).finish().out == "4711\n4712\n");
}

TEST_CASE("signals reach the whole process group") {
  Guest guest;
  Run run(guest, shell("sleep 1000 & wait"));
  run.started();
  guest.send(FrameType::signal, run.id(), Signal{SIGTERM});
  const Exited exited = run.exited();
  CHECK(exited.flags == Exited::by_signal);
  CHECK(exited.value == SIGTERM);
}

TEST_CASE("a signal that comes before the program runs is kept for it") {
  std::ifstream file("/bin/sleep", std::ios::binary);
  const std::string program{std::istreambuf_iterator<char>(file), {}};
  Guest guest;
  Listener listener(first_stream_port);
  Exec fixed;
  fixed.flags = Exec::upload;
  fixed.program_port = first_stream_port;
  fixed.program_size = program.size();
  const std::uint32_t id = guest.next_id();
  const Strings argv{"sleep", "1000"};
  guest.send(FrameType::exec, id, ExecRequest<Strings>{fixed, argv, {}});
  guest.send(FrameType::signal, id, Signal{SIGUSR2});
  guest.send(FrameType::exec, 99, Empty{});  // refused at once: what came before it was served
  CHECK(guest.receive(99).header.type == FrameType::exec_failed);
  write_all(listener.accept().get(), program);
  CHECK(guest.receive(id).header.type == FrameType::started);
  const auto exited = Exited::decode(Reader(guest.receive(id).payload));
  REQUIRE(exited);
  CHECK(exited->flags == Exited::by_signal);
  CHECK(exited->value == SIGUSR2);
}

TEST_CASE("an upload that ends early is told as such") {
  Guest guest;
  Listener listener(first_stream_port);
  Exec fixed;
  fixed.flags = Exec::upload;
  fixed.program_port = first_stream_port;
  fixed.program_size = 10;
  const std::uint32_t id = guest.next_id();
  guest.send(FrameType::exec, id, ExecRequest<Strings>{fixed, {"x"}, {}});
  write_all(listener.accept().get(), "123456789");
  const Answer answer = guest.receive(id);
  REQUIRE(answer.header.type == FrameType::exec_failed);
  CHECK(ExecFailed::decode(Reader(answer.payload))->step == ExecStep::upload);
}

TEST_CASE("signals and resizes for an exec that is over are ignored") {
  Guest guest;
  Run run(guest, {"true"});
  run.finish();
  guest.send(FrameType::signal, run.id(), Signal{SIGKILL});
  guest.send(FrameType::signal, 999, Signal{77});
  guest.send(FrameType::resize, run.id(), Resize{1, 1});
  CHECK(Run(guest, {"true"}).finish().exited.flags == 0);
}

TEST_CASE("no signal is blocked or ignored in a program") {
  Guest guest;
  const std::string out = Run(guest, {"cat", "/proc/self/status"}).finish().out;
  CHECK(out.find("SigBlk:\t0000000000000000") != out.npos);
}

TEST_CASE("a program inherits no descriptor but its three") {
  Guest guest;
  Run other(guest, {"sleep", "1000"});
  other.started();
  CHECK(Run(guest, shell("ls /proc/$$/fd")).finish().out == "0\n1\n2\n");
  guest.send(FrameType::signal, other.id(), Signal{SIGKILL});
  other.exited();
}

TEST_CASE("a terminal echoes, has the size it was given and follows resizes") {
  Guest guest;
  Run::Options options;
  options.flags = Exec::tty;
  options.rows = 33;
  options.columns = 111;
  Run run(guest,
          shell("trap 'stty size; exit 7' WINCH; tty; stty size; echo go; read line; echo got $line; "
                "while :; do sleep 0.05; done"),
          options);
  run.started();
  CHECK(read_until(run.in.get(), "go\r\n").find("33 111\r\n") != std::string::npos);
  write_all(run.in.get(), "hello\n");
  const std::string reply = read_until(run.in.get(), "got hello\r\n");
  CHECK(reply.find("hello\r\ngot hello") != std::string::npos);  // the echo comes first
  guest.send(FrameType::resize, run.id(), Resize{44, 122});
  CHECK(read_to_end(run.in.get()) == "44 122\r\n");
  CHECK(run.exited().value == 7);
}

TEST_CASE("^C on a terminal interrupts the program") {
  Guest guest;
  Run::Options options;
  options.flags = Exec::tty;
  Run run(guest, shell("echo go; exec sleep 1000"), options);
  run.started();
  read_until(run.in.get(), "go\r\n");
  write_all(run.in.get(), "\x03");
  const Exited exited = run.exited();
  CHECK(exited.flags == Exited::by_signal);
  CHECK(exited.value == SIGINT);
}

TEST_CASE("the end of a terminal's input is an end of file for its program") {
  const std::string input = GENERATE("", "line\n", "part");
  Guest guest;
  Run::Options options;
  options.flags = Exec::tty;
  Run run(guest, shell("stty -echo; echo go; cat; echo done"), options);
  run.started();
  read_until(run.in.get(), "go\r\n");
  write_all(run.in.get(), input);
  shutdown(run.in.get(), SHUT_WR);
  CHECK(read_to_end(run.in.get()).find("done\r\n") != std::string::npos);
  CHECK(run.exited().value == 0);
}

TEST_CASE("the last output of a terminal's program is not lost") {
  Guest guest;
  Run::Options options;
  options.flags = Exec::tty;
  Run run(guest, shell("sleep 1000 & seq 1 3000; exit 2"), options);
  run.started();
  const std::string out = read_to_end(run.in.get());
  CHECK(out.substr(out.size() - 6) == "3000\r\n");
  CHECK(run.exited().value == 2);
}

TEST_CASE("a terminal that the host leaves hangs the program up") {
  Guest guest;
  Run::Options options;
  options.flags = Exec::tty;
  Run run(guest, {"sleep", "1000"}, options);
  run.started();
  run.in.reset();
  const Exited exited = run.exited();
  CHECK(exited.flags == Exited::by_signal);
  CHECK(exited.value == SIGHUP);
}

TEST_CASE("a terminal needs a stream") {
  Guest guest;
  Exec fixed;
  fixed.flags = Exec::tty;
  const ExecFailed failed = refused(guest, fixed, {"true"});
  CHECK(failed.step == ExecStep::request);
  CHECK(failed.error == EINVAL);
}

TEST_CASE("an uploaded program runs without being in any file") {
  std::ifstream file("/bin/echo", std::ios::binary);
  Guest guest;
  Run::Options options;
  options.flags = Exec::upload;
  options.program = {std::istreambuf_iterator<char>(file), {}};
  REQUIRE(options.program.size() > 4096);
  CHECK(Run(guest, {"whatever", "hello"}, options).finish().out == "hello\n");
}

TEST_CASE("an uploaded file that is no program is told with the reason") {
  Guest guest;
  Run::Options options;
  options.flags = Exec::upload;
  options.program = "neither ELF nor script";
  const ExecFailed failed = Run(guest, {"x"}, options).failed();
  CHECK(failed.step == ExecStep::execute);
  CHECK(failed.error == ENOEXEC);
}

TEST_CASE("a port that nobody serves is told as such") {
  Guest guest;
  Exec fixed;
  fixed.stdout_port = 0xfff'ffff;
  const ExecFailed failed = refused(guest, fixed, {"true"});
  CHECK(failed.step == ExecStep::streams);
  CHECK(failed.error == ECONNREFUSED);
}

TEST_CASE("many programs run at once, and one too many is refused") {
  Guest guest;
  std::vector<std::uint32_t> ids;
  for (std::size_t i = 0; i < ExecServer::max_sessions; ++i) {
    ids.push_back(guest.next_id());
    guest.send(FrameType::exec, ids.back(), ExecRequest<Strings>{{}, {"sleep", "1000"}, {}});
  }
  for (const std::uint32_t id : ids) CHECK(guest.receive(id).header.type == FrameType::started);
  const ExecFailed failed = refused(guest, {}, {"true"});
  CHECK(failed.step == ExecStep::request);
  CHECK(failed.error == EAGAIN);
  for (const std::uint32_t id : ids) guest.send(FrameType::signal, id, Signal{SIGKILL});
  for (const std::uint32_t id : ids) CHECK(guest.receive(id).header.type == FrameType::exited);
  CHECK(Run(guest, {"true"}).finish().exited.value == 0);
}

TEST_CASE("concurrent programs keep their streams apart") {
  Guest guest;
  std::vector<Run> runs;
  runs.reserve(24);
  for (int i = 0; i < 24; ++i) runs.emplace_back(guest, shell("cat; exit " + std::to_string(i)));
  std::vector<std::string> outs(runs.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    threads.emplace_back([&, i] {
      write_all(runs[i].in.get(), std::string(100'000, static_cast<char>('A' + i)));
      shutdown(runs[i].in.get(), SHUT_WR);
    });
    threads.emplace_back([&, i] { outs[i] = read_to_end(runs[i].out.get()); });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < runs.size(); ++i) {
    CHECK((outs[i] == std::string(100'000, static_cast<char>('A' + i))));
    runs[i].started();
    CHECK(runs[i].exited().value == i);
  }
}

TEST_CASE("hundreds of programs one after the other leave nothing behind") {
  Guest guest;
  const auto open_files = [&] {
    const std::string path = "/proc/" + std::to_string(guest.server()) + "/fd";
    return std::distance(std::filesystem::directory_iterator(path), {});
  };
  Run(guest, {"true"}).finish();
  const auto before = open_files();
  for (int i = 0; i < 300; ++i) REQUIRE(Run(guest, {"true"}).finish().exited.value == 0);
  CHECK(open_files() == before);
}

TEST_CASE("orphans are reaped") {
  Guest guest;
  const Result result = Run(guest, shell("sh -c 'sh -c \"sleep 0.1; exit 1\" & echo $!'")).finish();
  const pid_t orphan = std::stoi(result.out);
  const auto deadline = Clock::now() + patience;
  while (kill(orphan, 0) == 0 && Clock::now() < deadline) Run(guest, {"true"}).finish();
  CHECK(kill(orphan, 0) != 0);
}

TEST_CASE("requests in pieces and requests in one go are the same") {
  Guest guest;
  std::array<std::byte, 512> buffer;
  const Strings argv = shell("exit 6");
  const auto frame = encode_frame(buffer, FrameType::exec, 5, ExecRequest<Strings>{{}, argv, {}});
  for (const std::byte& byte : frame) guest.send_raw({&byte, 1});
  CHECK(guest.receive(5).header.type == FrameType::started);
  CHECK(Exited::decode(Reader(guest.receive(5).payload))->value == 6);
}

TEST_CASE("a request as large as a frame may be is served") {
  Guest guest;
  const Strings argv{"sh", "-c", "echo ${#1}", "sh", std::string(120'000, 'x')};
  Strings env;
  for (int i = 0; i < 8; ++i) env.push_back("V" + std::to_string(i) + "=" + std::string(100'000, 'y'));
  Run::Options options;
  options.env = env;
  CHECK(Run(guest, argv, options).finish().out == "120000\n");
}

TEST_CASE("frames of unknown types are skipped") {
  Guest guest;
  guest.send(static_cast<FrameType>(4711), 1, Failed{"later", "version", 1});
  CHECK(Run(guest, {"true"}).finish().exited.value == 0);
}

TEST_CASE("an exec whose payload is broken is refused, not fatal") {
  Guest guest;
  guest.send(FrameType::exec, 9, Started{1});
  const Answer answer = guest.receive(9);
  REQUIRE(answer.header.type == FrameType::exec_failed);
  CHECK(ExecFailed::decode(Reader(answer.payload))->error == EBADMSG);
}

TEST_CASE("an argument with a NUL byte is refused") {
  Guest guest;
  CHECK(refused(guest, {}, {"true", std::string("a\0b", 3)}).error == EINVAL);
}

TEST_CASE("a frame beyond the limit ends the server") {
  Guest guest;
  std::array<std::byte, FrameHeader::size> bytes;
  Writer writer(bytes);
  FrameHeader{FrameHeader::max_payload + 1, FrameType::exec, 1}.encode(writer);
  guest.send_raw(bytes);
  CHECK(guest.end() == ExecServer::End::malformed_frame);
}

TEST_CASE("power_off ends the server") {
  Guest guest;
  guest.send(FrameType::power_off, 0, Empty{});
  CHECK(guest.end() == ExecServer::End::power_off);
}

TEST_CASE("the host going away ends the server") {
  Guest guest;
  guest.hang_up();
  CHECK(guest.end() == ExecServer::End::connection_lost);
}

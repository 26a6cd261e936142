#include "vmm/machine_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "protocol/machine_socket.h"
#include "tests/channel_guest.h"
#include "tests/own_state_directory.h"
#include "vmm/machine_client.h"
#include "vmm/machine_registry.h"

namespace minivm {
namespace {

using namespace std::chrono_literals;
using protocol::FrameHeader;
using protocol::FrameType;
using test::ChannelGuest;
using test::OwnStateDirectory;

/// The machine "web": a real socket and a real channel, whose guest the test plays.
class Web {
 public:
  explicit Web(bool ready = true) {
    if (ready) guest.become_ready();
    guest.guest.on_loop([&] {
      socket.emplace(registration.listen(), guest.guest.loop, *guest.channel,
                     SocketClient::Requests{.stop = [this](auto deadline) { stopped = deadline; },
                                            .kill = [this] { killed = true; }});
    });
  }
  ~Web() {
    guest.guest.on_loop([&] { socket.reset(); });
  }
  Web(const Web&) = delete;
  Web& operator=(const Web&) = delete;

  void settle() { guest.guest.settle(); }
  /// Announces the end as the owner of a machine does, and closes the door.
  void end(int exit_code, const std::string& reason) {
    guest.guest.on_loop([&] {
      socket->announce_end(exit_code, reason);
      socket.reset();
    });
  }
  std::string socket_path() const { return registration.path() + "/socket"; }

  OwnStateDirectory state;
  MachineRegistry registry;
  Registration registration = registry.add("web");
  ChannelGuest guest;
  std::optional<std::chrono::milliseconds> stopped;
  bool killed = false;
  std::optional<MachineSocket> socket;
};

/// What a client heard.
struct Heard {
  bool started = false;
  std::optional<ExitStatus> status;
  std::optional<int> refused;
  std::string reason;
  std::optional<int> ended;
  bool closed = false;

  bool over() const { return status || refused || ended || closed; }
};

/// Waits until something is over; the test fails when nothing comes.
Heard hear(MachineClient& client) {
  Heard heard;
  while (!heard.over()) {
    pollfd ready{client.fd(), POLLIN, 0};
    REQUIRE(::poll(&ready, 1, 20'000) == 1);
    heard.closed = !client.receive({.started = [&] { heard.started = true; },
                                    .exited = [&](const ExitStatus& status) { heard.status = status; },
                                    .refused =
                                        [&](int exit_code, std::string reason) {
                                          heard.refused = exit_code;
                                          heard.reason = std::move(reason);
                                        },
                                    .ended = [&](int exit_code) { heard.ended = exit_code; }});
  }
  return heard;
}

constexpr Streams no_streams{-1, -1, -1};

/// A client of which nothing is known: bytes and descriptors go out as the test says.
class RawClient {
 public:
  explicit RawClient(const Web& web) : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    REQUIRE(web.socket_path().size() < sizeof address.sun_path);
    std::strcpy(address.sun_path, web.socket_path().c_str());
    REQUIRE(::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }

  void send(std::span<const std::byte> bytes, const std::vector<int>& descriptors = {}) {
    iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    std::vector<char> control(CMSG_SPACE(descriptors.size() * sizeof(int)));
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
      std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size() * sizeof(int));
    }
    REQUIRE(::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  }
  template <typename Message>
  void say(FrameType type, const Message& message, const std::vector<int>& descriptors = {}) {
    std::array<std::byte, 1024> buffer;
    send(protocol::encode_frame(buffer, type, 1, message), descriptors);
  }
  void say_exec(const protocol::Exec& fixed, const std::vector<int>& descriptors = {}) {
    const std::vector<std::string> argv{"true"};
    say(FrameType::exec, protocol::ExecRequest<std::vector<std::string>>{fixed, argv, {}}, descriptors);
  }
  /// The types of all frames that come until the other side closes, or until one of `last` has come.
  std::vector<FrameType> hear(FrameType last) {
    std::vector<FrameType> types;
    std::vector<std::byte> bytes;
    while (types.empty() || types.back() != last) {
      pollfd ready{socket_.get(), POLLIN, 0};
      REQUIRE(::poll(&ready, 1, 20'000) == 1);
      std::array<std::byte, 4096> part;
      const ssize_t size = ::recv(socket_.get(), part.data(), part.size(), 0);
      if (size <= 0) return types;
      bytes.insert(bytes.end(), part.begin(), part.begin() + size);
      while (const auto header = FrameHeader::decode(bytes)) {
        if (bytes.size() < FrameHeader::size + header->length) break;
        types.push_back(header->type);
        bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(FrameHeader::size + header->length));
      }
    }
    return types;
  }
  bool is_dropped() { return hear(FrameType{}).empty(); }

 private:
  UniqueFd socket_;
};

std::size_t open_descriptors() {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator()));
}

std::vector<std::byte> repeated(std::size_t size, int value) {
  return std::vector(size, static_cast<std::byte>(value));
}

TEST_CASE("An exec through the socket has the client's own descriptors and ends with the program's status") {
  Web web;
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd out(ends[0]);
  UniqueFd writer(ends[1]);
  MachineClient client("web");
  client.exec({.argv = {"echo", "words"}, .env = {"K=V"}, .directory = "/tmp", .user = "nobody"},
              {-1, writer.get(), -1}, 0, 0, false);
  writer.reset();
  const auto frame = web.guest.hear();
  REQUIRE(frame);
  REQUIRE(frame->header.type == FrameType::exec);
  const auto request = protocol::Exec::decode(protocol::Reader(frame->payload));
  REQUIRE(request);
  CHECK(request->user == "nobody");
  CHECK(request->directory == "/tmp");
  CHECK(request->stdin_port == 0);
  CHECK(request->stderr_port == 0);
  web.guest.guest.accept(protocol::stream_port, request->stdout_port);
  web.guest.say(FrameType::started, frame->header.id, protocol::Started{7});
  web.guest.guest.send(web.guest.guest.header(virtio::vsock::op_rw, protocol::stream_port, request->stdout_port, 5),
                       "words");
  web.guest.guest.shutdown(protocol::stream_port, request->stdout_port,
                           virtio::vsock::shutdown_send | virtio::vsock::shutdown_receive);
  web.guest.say(FrameType::exited, frame->header.id, protocol::Exited{.value = 3});
  const Heard heard = hear(client);
  CHECK(client.welcomed());
  CHECK(heard.started);
  REQUIRE(heard.status);
  CHECK(heard.status->code == 3);
  char text[16] = {};
  CHECK(::read(out.get(), text, sizeof text) == 5);
  CHECK(std::string(text) == "words");
  CHECK(::read(out.get(), text, sizeof text) == 0);  // the machine holds none of it any more
}

TEST_CASE("Death by a signal, and by the OOM killer, is told as such") {
  Web web;
  MachineClient client("web");
  client.exec({.argv = {"sleep"}}, no_streams, 0, 0, false);
  const auto frame = web.guest.hear();
  REQUIRE(frame);
  web.guest.say(FrameType::exited, frame->header.id,
                protocol::Exited{protocol::Exited::by_signal | protocol::Exited::out_of_memory, SIGKILL});
  const Heard heard = hear(client);
  REQUIRE(heard.status);
  CHECK(heard.status->code == 137);
  CHECK(heard.status->signal == SIGKILL);
  CHECK(heard.status->out_of_memory);
}

TEST_CASE("What the guest cannot execute has the exit code of the shells, and a reason that names the machine") {
  Web web;
  MachineClient client("web");
  client.exec({.argv = {"nosuch"}}, no_streams, 0, 0, false);
  const auto frame = web.guest.hear();
  REQUIRE(frame);
  web.guest.say(FrameType::exec_failed, frame->header.id, protocol::ExecFailed{protocol::ExecStep::execute, ENOENT});
  const Heard heard = hear(client);
  CHECK(heard.refused == 127);
  CHECK(heard.reason == "machine web: nosuch: not found in the guest's PATH");
}

TEST_CASE("A guest that runs all it can says so") {
  Web web;
  MachineClient client("web");
  client.exec({.argv = {"true"}}, no_streams, 0, 0, false);
  const auto frame = web.guest.hear();
  REQUIRE(frame);
  web.guest.say(FrameType::exec_failed, frame->header.id, protocol::ExecFailed{protocol::ExecStep::request, EAGAIN});
  const Heard heard = hear(client);
  CHECK(heard.refused == 125);
  CHECK_THAT(heard.reason, Catch::Contains("as many commands as it can"));
}

TEST_CASE("Signals and sizes go to the client's own exec") {
  Web web;
  MachineClient client("web");
  client.exec({.argv = {"vi"}, .tty = true}, {0, 1, -1}, 24, 80, false);
  const auto exec = web.guest.hear();
  REQUIRE(exec);
  CHECK(protocol::Exec::decode(protocol::Reader(exec->payload))->rows == 24);
  client.signal(SIGTERM);
  const auto signal = web.guest.hear();
  REQUIRE(signal);
  CHECK(signal->header.type == FrameType::signal);
  CHECK(signal->header.id == exec->header.id);
  CHECK(protocol::Signal::decode(protocol::Reader(signal->payload))->number == SIGTERM);
  client.resize(50, 100);
  const auto resize = web.guest.hear();
  REQUIRE(resize);
  CHECK(resize->header.type == FrameType::resize);
  CHECK(protocol::Resize::decode(protocol::Reader(resize->payload))->columns == 100);
}

TEST_CASE("The death of a client kills its command, unless it is to be kept") {
  Web web;
  const bool keep = GENERATE(false, true);
  std::optional<MachineClient> client("web");
  client->exec({.argv = {"sleep"}}, no_streams, 0, 0, keep);
  const auto exec = web.guest.hear();
  REQUIRE(exec);
  client.reset();
  MachineClient next("web");
  next.exec({.argv = {"true"}}, no_streams, 0, 0, false);
  const auto frame = web.guest.hear();
  REQUIRE(frame);
  if (keep) {
    CHECK(frame->header.type == FrameType::exec);
  } else {
    REQUIRE(frame->header.type == FrameType::signal);
    CHECK(frame->header.id == exec->header.id);
    CHECK(protocol::Signal::decode(protocol::Reader(frame->payload))->number == SIGKILL);
  }
}

TEST_CASE("An exec into a machine that is not ready is refused") {
  Web web(false);
  MachineClient client("web");
  client.exec({.argv = {"true"}}, no_streams, 0, 0, false);
  const Heard heard = hear(client);
  CHECK(heard.refused == 125);
  CHECK(heard.reason == "machine web: not ready");
}

TEST_CASE("Stop and kill reach the machine's owner, and the end reaches who watches") {
  Web web;
  MachineClient stopper("web");
  stopper.stop(1500ms);
  MachineClient killer("web");
  killer.kill();
  MachineClient watcher("web");
  watcher.watch();
  MachineClient runner("web");
  runner.exec({.argv = {"sleep"}}, no_streams, 0, 0, false);
  REQUIRE(web.guest.hear());
  web.guest.guest.on_loop([&] {
    CHECK(web.stopped == 1500ms);
    CHECK(web.killed);
  });
  web.end(42, "powered off");
  for (MachineClient* client : {&stopper, &killer, &watcher}) CHECK(hear(*client).ended == 42);
  const Heard heard = hear(runner);
  CHECK(heard.refused == 125);
  CHECK(heard.reason == "machine web: powered off");
}

TEST_CASE("A client that does not speak the protocol is dropped, and others are served") {
  Web web;
  RawClient broken(web);
  SECTION("garbage") { broken.send(repeated(4096, 0xFF)); }
  SECTION("a huge length") {
    std::array<std::byte, FrameHeader::size> frame;
    protocol::Writer writer(frame);
    FrameHeader{0xFFFF'FFFF, FrameType::hello, 0}.encode(writer);
    broken.send(frame);
  }
  SECTION("no hello") { broken.say(FrameType::watch, protocol::Empty{}); }
  SECTION("a hello that is cut off") { broken.say(FrameType::hello, protocol::Empty{}); }
  CHECK(broken.is_dropped());
  MachineClient client("web");
  client.exec({.argv = {"true"}}, no_streams, 0, 0, false);
  CHECK(web.guest.hear());
}

TEST_CASE("A client of another version learns which one is spoken here") {
  Web web;
  RawClient client(web);
  client.say(FrameType::hello, protocol::Hello{protocol::version + 1, 0});
  CHECK(client.hear(FrameType{}) == std::vector{FrameType::welcome});
}

TEST_CASE("Half a frame holds nobody up") {
  Web web;
  RawClient slow(web);
  std::array<std::byte, 64> buffer;
  const auto hello = protocol::encode_frame(buffer, FrameType::hello, 0, protocol::Hello{});
  slow.send(hello.first(7));
  MachineClient client("web");
  client.exec({.argv = {"true"}}, no_streams, 0, 0, false);
  CHECK(web.guest.hear());
  slow.send(hello.subspan(7));  // a frame may come in as many pieces as it likes
  CHECK(slow.hear(FrameType::welcome) == std::vector{FrameType::welcome});
}

TEST_CASE("A request that names descriptors which did not come along is refused") {
  Web web;
  const UniqueFd null = open_file("/dev/null", O_RDWR);
  const auto [ports, sent] = GENERATE(table<std::vector<std::uint32_t>, int>(
      {{{1, 0, 0, 0}, 0}, {{0, 2, 0, 0}, 1}, {{1, 1, 0, 0}, 1}, {{0xFFFF'FFFF, 0, 0, 0}, 1}, {{1, 2, 3, 4}, 3}}));
  RawClient client(web);
  client.say(FrameType::hello, protocol::Hello{});
  protocol::Exec request;
  request.stdin_port = ports[0];
  request.stdout_port = ports[1];
  request.stderr_port = ports[2];
  request.program_port = ports[3];
  client.say_exec(request, std::vector<int>(static_cast<std::size_t>(sent), null.get()));
  CHECK(client.hear(FrameType::refused) == std::vector{FrameType::welcome, FrameType::refused});
}

TEST_CASE("A malformed exec is refused, and a second one on a connection is not heard") {
  Web web;
  RawClient client(web);
  client.say(FrameType::hello, protocol::Hello{});
  client.say(FrameType::exec, protocol::Empty{});
  CHECK(client.hear(FrameType::refused) == std::vector{FrameType::welcome, FrameType::refused});
  client.say_exec({});
  MachineClient other("web");
  other.exec({.argv = {"other"}}, no_streams, 0, 0, false);
  const auto frame = web.guest.hear();
  REQUIRE(frame);
  protocol::Exec::decode(protocol::Reader(frame->payload))->argv.for_each([](std::string_view word) {
    CHECK(word == "other");
  });
}

TEST_CASE("Descriptors that nobody asked for are closed") {
  Web web;
  web.settle();
  const std::size_t before = open_descriptors();
  const UniqueFd null = open_file("/dev/null", O_RDWR);
  for (const int count : {1, 4, 5, 100, 253}) {
    CAPTURE(count);
    RawClient client(web);
    client.say(FrameType::hello, protocol::Hello{}, std::vector<int>(static_cast<std::size_t>(count), null.get()));
    if (count > 4) CHECK(client.is_dropped());
  }
  web.settle();
  web.settle();
  CHECK(open_descriptors() == before + 1);
}

TEST_CASE("Clients that come and go leave nothing") {
  Web web;
  web.settle();
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 300; ++i) {
    MachineClient client("web");
    client.exec({.argv = {"true"}}, {-1, 1, 2}, 0, 0, false);
    const auto frame = web.guest.hear();
    REQUIRE(frame);
    web.guest.say(FrameType::exec_failed, frame->header.id, protocol::ExecFailed{protocol::ExecStep::request, EAGAIN});
    REQUIRE(hear(client).refused == 125);
  }
  web.settle();
  web.settle();
  CHECK(open_descriptors() == before);
}

TEST_CASE("Connections have a limit, and there is one more word for those beyond") {
  Web web;
  std::vector<std::unique_ptr<RawClient>> crowd;
  for (std::size_t i = 0; i < MachineSocket::max_clients / 2; ++i) {
    crowd.push_back(std::make_unique<RawClient>(web));
  }
  MachineClient client("web");  // half of them are no trouble
  client.exec({.argv = {"true"}}, no_streams, 0, 0, false);
  REQUIRE(web.guest.hear());
  while (crowd.size() < MachineSocket::max_clients - 1) crowd.push_back(std::make_unique<RawClient>(web));
  MachineClient late("web");
  late.watch();
  const Heard heard = hear(late);
  CHECK(heard.refused == 125);
  CHECK(heard.reason == "machine web: has too many clients");
  crowd.clear();
  web.settle();
  web.settle();
  MachineClient next("web");
  next.exec({.argv = {"true"}}, no_streams, 0, 0, false);
  CHECK(web.guest.hear());
}

}  // namespace
}  // namespace minivm

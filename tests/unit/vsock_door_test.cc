#include "vmm/vsock_door.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "tests/scratch_directory.h"
#include "tests/vsock_guest.h"

namespace minivm {
namespace {

using namespace std::chrono_literals;
using test::ScratchDirectory;
using test::VsockGuest;
namespace vsock = virtio::vsock;

/// A guest's vsock device with a door to it.
class Doorway {
 public:
  explicit Doorway(std::chrono::milliseconds patience = VsockDoor::default_patience) {
    guest.post_rx();
    guest.on_loop([&] { door.emplace(guest.device, guest.loop, path, patience); });
  }
  ~Doorway() {
    guest.on_loop([&] { door.reset(); });
  }
  Doorway(const Doorway&) = delete;
  Doorway& operator=(const Doorway&) = delete;

  UniqueFd call(std::string_view words = {}) const {
    UniqueFd socket = connect_unix(path);
    REQUIRE(socket);
    if (!words.empty()) say(socket, words);
    return socket;
  }
  static void say(const UniqueFd& socket, std::string_view words) {
    REQUIRE(::send(socket.get(), words.data(), words.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(words.size()));
  }
  /// What comes next, up to `size` bytes; empty at the end of the stream.
  static std::string hear(const UniqueFd& socket, std::size_t size = 4096) {
    pollfd wanted{socket.get(), POLLIN, 0};
    REQUIRE(::poll(&wanted, 1, 20'000) == 1);
    std::string heard(size, '\0');
    const ssize_t count = ::recv(socket.get(), heard.data(), heard.size(), 0);
    heard.resize(static_cast<std::size_t>(count < 0 ? 0 : count));
    return heard;
  }
  /// The guest's answer to the REQUEST that must come next; returns the host's port.
  std::uint32_t answer(std::uint16_t op, std::uint32_t guest_port) {
    const auto request = guest.receive();
    REQUIRE(request);
    REQUIRE(request->header.op == vsock::op_request);
    CHECK(request->header.dst_port == guest_port);
    guest.send(guest.header(op, guest_port, request->header.src_port));
    return request->header.src_port;
  }
  /// The next packet that carries data or tells of an end.
  std::optional<VsockGuest::Packet> next() {
    for (;;) {
      auto packet = guest.receive();
      if (!packet || packet->header.op != vsock::op_credit_update) return packet;
    }
  }

  ScratchDirectory directory;
  std::string path = directory.path("vsock");
  VsockGuest guest;
  std::optional<VsockDoor> door;
};

TEST_CASE("A caller is connected to the guest's port, and the two talk") {
  Doorway test;
  const UniqueFd caller = test.call("CONNECT 52\nhello");  // what follows the line is the guest's
  const std::uint32_t host_port = test.answer(vsock::op_response, 52);
  CHECK(Doorway::hear(caller) == "OK " + std::to_string(host_port) + "\n");
  const auto hello = test.next();
  REQUIRE(hello);
  CHECK(hello->header.op == vsock::op_rw);
  CHECK(hello->payload == "hello");
  test.guest.send(test.guest.header(vsock::op_rw, 52, host_port, 5), "world");
  CHECK(Doorway::hear(caller) == "world");
  SECTION("the caller ends its half") {
    ::shutdown(caller.get(), SHUT_WR);
    const auto end = test.next();
    REQUIRE(end);
    CHECK(end->header.op == vsock::op_shutdown);
    CHECK(end->header.flags == vsock::shutdown_send);
    test.guest.send(test.guest.header(vsock::op_rw, 52, host_port, 4), "more");
    CHECK(Doorway::hear(caller) == "more");
    test.guest.shutdown(52, host_port, vsock::shutdown_send);
    CHECK(Doorway::hear(caller).empty());
  }
  SECTION("the guest ends its half") {
    test.guest.shutdown(52, host_port, vsock::shutdown_send);
    CHECK(Doorway::hear(caller).empty());
    Doorway::say(caller, "still here");
    const auto packet = test.next();
    REQUIRE(packet);
    CHECK(packet->payload == "still here");
  }
  SECTION("the guest drops the connection") {
    test.guest.send(test.guest.header(vsock::op_rst, 52, host_port));
    CHECK(Doorway::hear(caller).empty());
  }
}

TEST_CASE("A caller whom the guest refuses gets no OK") {
  Doorway test;
  const UniqueFd caller = test.call("CONNECT 52\n");
  test.answer(vsock::op_rst, 52);
  CHECK(Doorway::hear(caller).empty());
}

TEST_CASE("A line may come in pieces") {
  Doorway test;
  const UniqueFd caller = test.call("CONN");
  test.guest.settle();
  Doorway::say(caller, "ECT 4294967294");
  test.guest.settle();
  Doorway::say(caller, "\n");
  test.answer(vsock::op_response, 4294967294);
  CHECK(Doorway::hear(caller).starts_with("OK "));
}

TEST_CASE("Whoever says anything else is shut out, and nobody else notices") {
  const std::string words = GENERATE("\n", "CONNECT\n", "CONNECT \n", "CONNECT 4294967295\n", "CONNECT 99999999999\n",
                                     "CONNECT -1\n", "CONNECT 52 \n", "CONNECT 52\r\n", "connect 52\n",
                                     "GET / HTTP/1.1\r\n", "0123456789012345678901234567890123456789");
  Doorway test;
  const UniqueFd good = test.call("CONNECT ");
  const UniqueFd bad = test.call(words);
  CHECK(Doorway::hear(bad).empty());
  Doorway::say(good, "52\n");
  test.answer(vsock::op_response, 52);
  CHECK(Doorway::hear(good).starts_with("OK "));
}

TEST_CASE("A caller that says nothing, or stops in the middle, is not waited for") {
  Doorway test(20ms);
  const UniqueFd silent = test.call();
  const UniqueFd slow = test.call("CONNECT 5");
  CHECK(Doorway::hear(silent).empty());
  CHECK(Doorway::hear(slow).empty());
}

TEST_CASE("A caller that ends before its line does is forgotten") {
  Doorway test;
  UniqueFd caller = test.call("CONNECT 52");
  ::shutdown(caller.get(), SHUT_WR);
  CHECK(Doorway::hear(caller).empty());
}

TEST_CASE("A caller that hangs up right after its line leaves nothing behind") {
  Doorway test;
  test.call("CONNECT 52\n").reset();
  const std::uint32_t host_port = test.answer(vsock::op_response, 52);
  // It sees the end of both halves, and says goodbye.
  const auto end = test.next();
  REQUIRE(end);
  CHECK((end->header.op == vsock::op_shutdown || end->header.op == vsock::op_rst));
  test.guest.send(test.guest.header(vsock::op_rst, 52, host_port));
  const UniqueFd next = test.call("CONNECT 53\n");
  test.answer(vsock::op_response, 53);
  CHECK(Doorway::hear(next).starts_with("OK "));
}

TEST_CASE("Above the limit callers are turned away, and below it served again") {
  Doorway test;
  std::vector<UniqueFd> callers;
  for (std::size_t i = 0; i < VsockDoor::max_connections; ++i) {
    callers.push_back(test.call());
    if (i % 64 == 0) test.guest.settle();
  }
  test.guest.settle();
  CHECK(Doorway::hear(test.call()).empty());
  callers.clear();
  test.guest.settle();
  const UniqueFd caller = test.call("CONNECT 52\n");
  test.answer(vsock::op_response, 52);
  CHECK(Doorway::hear(caller).starts_with("OK "));
}

TEST_CASE("A connection of the guest goes to the socket that is named after its port") {
  Doorway test;
  const UnixListener service(test.path + "_77");
  REQUIRE(test.guest.connect(1000, 77));
  pollfd wanted{service.fd(), POLLIN, 0};
  REQUIRE(::poll(&wanted, 1, 20'000) == 1);
  const UniqueFd socket = service.accept();
  REQUIRE(socket);
  test.guest.send(test.guest.header(vsock::op_rw, 1000, 77, 4), "ping");
  CHECK(Doorway::hear(socket) == "ping");  // no handshake in this direction
  Doorway::say(socket, "pong");
  const auto packet = test.next();
  REQUIRE(packet);
  CHECK(packet->payload == "pong");
}

TEST_CASE("A port of the host that nobody serves is refused") {
  Doorway test;
  CHECK_FALSE(test.guest.connect(1000, 78));
  std::ofstream(test.path + "_79") << "no socket";
  CHECK_FALSE(test.guest.connect(1000, 79));
  test.guest.on_loop([&] { test.door.reset(); });
  const UnixListener service(test.path + "_77");
  CHECK_FALSE(test.guest.connect(1000, 77));  // nor any, once the door is closed
}

TEST_CASE("The socket is for its owner, and goes with the door") {
  Doorway test;
  struct stat status {};
  REQUIRE(::stat(test.path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  test.guest.on_loop([&] { test.door.reset(); });
  CHECK(::access(test.path.c_str(), F_OK) != 0);
}

TEST_CASE("A path that cannot be served is refused by name") {
  const ScratchDirectory directory;
  VsockGuest guest;
  const auto refused = [&](const std::string& path) {
    std::string what;
    guest.on_loop([&] {
      try {
        const VsockDoor door(guest.device, guest.loop, path);
      } catch (const std::runtime_error& error) {
        what = error.what();
      }
    });
    return what;
  };
  const std::string path = directory.path("vsock");
  {
    const UnixListener other(path);
    CHECK(refused(path) == "socket " + path + ": in use by another program");
  }
  std::ofstream(directory.path("file")) << "text";
  CHECK(refused(directory.path("file")) == "socket " + directory.path("file") + ": there is a file that is no socket");
  CHECK(refused(directory.path("none/vsock")) ==
        "socket " + directory.path("none/vsock") + ": No such file or directory");
  CHECK(refused(std::string(200, 'x')).ends_with("longer than 96 bytes"));
}

TEST_CASE("The socket of a program that was killed is replaced") {
  const ScratchDirectory directory;
  const std::string path = directory.path("vsock");
  REQUIRE(directory.run("python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"vsock\")'").status == 0);
  REQUIRE(::access(path.c_str(), F_OK) == 0);
  const UnixListener listener(path);
  CHECK(connect_unix(path));
}

}  // namespace
}  // namespace minivm

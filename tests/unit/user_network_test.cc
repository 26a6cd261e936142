#include "devices/virtio/user_network.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <thread>

#include "devices/virtio/net.h"
#include "tests/fake_driver.h"
#include "tests/internet_checksum.h"

using namespace minivm;
using namespace minivm::virtio;
using namespace std::chrono_literals;
using Catch::Matchers::Contains;
using minivm::test::FakeDriver;
using minivm::test::internet_checksum;

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr net::MacAddress guest_mac{0x02, 0, 0, 0, 0, 7};
constexpr std::uint32_t guest_ip = 0x0A00020F;  // 10.0.2.15
constexpr std::uint32_t host_ip = 0x0A000202;   // 10.0.2.2
constexpr std::uint8_t tcp_fin = 1;
constexpr std::uint8_t tcp_syn = 2;
constexpr std::uint8_t tcp_ack = 16;

void put(Bytes& bytes, std::uint64_t value, int size) {
  for (int i = size - 1; i >= 0; --i) bytes.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}
void append(Bytes& bytes, const Bytes& more) { bytes.insert(bytes.end(), more.begin(), more.end()); }
std::uint64_t get(const Bytes& bytes, std::size_t offset, int size) {
  std::uint64_t value = 0;
  for (int i = 0; i < size; ++i) value = value << 8 | bytes.at(offset + static_cast<std::size_t>(i));
  return value;
}
void set16(Bytes& bytes, std::size_t offset, std::uint16_t value) {
  bytes.at(offset) = static_cast<std::uint8_t>(value >> 8);
  bytes.at(offset + 1) = static_cast<std::uint8_t>(value);
}

/// An Ethernet frame with an IPv4 packet in it (RFC 791).
Bytes ip_frame(std::uint8_t protocol, std::uint32_t from, std::uint32_t to, const Bytes& payload,
               bool broadcast = false) {
  Bytes header{0x45, 0};
  put(header, 20 + payload.size(), 2);
  put(header, 0, 4);
  header.push_back(64);
  header.push_back(protocol);
  put(header, 0, 2);
  put(header, from, 4);
  put(header, to, 4);
  set16(header, 10, internet_checksum(header));
  // libslirp's own address (52:55 and then the IPv4 address), or all stations.
  Bytes frame = broadcast ? Bytes(6, 0xFF) : Bytes{0x52, 0x55, 10, 0, 2, 2};
  append(frame, Bytes(guest_mac.begin(), guest_mac.end()));
  put(frame, 0x0800, 2);
  append(frame, header);
  append(frame, payload);
  return frame;
}

/// Asks who has 10.0.2.2 (RFC 826).
Bytes arp_request() {
  Bytes frame(6, 0xFF);
  append(frame, Bytes(guest_mac.begin(), guest_mac.end()));
  put(frame, 0x0806'0001'0800, 6);
  put(frame, 0x0604'0001, 4);
  append(frame, Bytes(guest_mac.begin(), guest_mac.end()));
  put(frame, guest_ip, 4);
  put(frame, 0, 6);
  put(frame, host_ip, 4);
  return frame;
}

/// A segment (RFC 9293) from the guest to `port` of the host.
struct Segment {
  std::uint16_t from_port = 0;
  std::uint16_t to_port = 0;
  std::uint32_t sequence = 0;
  std::uint32_t acknowledged = 0;
  std::uint8_t flags = 0;
  std::string data;

  Bytes frame(std::uint32_t to) const {
    Bytes segment;
    put(segment, from_port, 2);
    put(segment, to_port, 2);
    put(segment, sequence, 4);
    put(segment, acknowledged, 4);
    put(segment, std::uint64_t{5} << 12 | flags, 2);
    put(segment, 0xFFFF, 2);
    put(segment, 0, 4);
    segment.insert(segment.end(), data.begin(), data.end());
    Bytes pseudo;
    put(pseudo, guest_ip, 4);
    put(pseudo, to, 4);
    put(pseudo, 6, 2);
    put(pseudo, segment.size(), 2);
    append(pseudo, segment);
    set16(segment, 16, internet_checksum(pseudo));
    return ip_frame(6, guest_ip, to, segment);
  }
  static std::optional<Segment> parse(const Bytes& frame) {
    if (frame.size() < 54 || get(frame, 12, 2) != 0x0800 || frame[23] != 6) return std::nullopt;
    const std::size_t end = 14 + get(frame, 16, 2);
    const std::size_t data = 34 + (get(frame, 46, 1) >> 4) * 4;
    return Segment{.from_port = static_cast<std::uint16_t>(get(frame, 34, 2)),
                   .to_port = static_cast<std::uint16_t>(get(frame, 36, 2)),
                   .sequence = static_cast<std::uint32_t>(get(frame, 38, 4)),
                   .acknowledged = static_cast<std::uint32_t>(get(frame, 42, 4)),
                   .flags = frame[47],
                   .data = std::string(frame.begin() + static_cast<std::ptrdiff_t>(data),
                                       frame.begin() + static_cast<std::ptrdiff_t>(end))};
  }
};

/// A guest's network stack of a few packets, behind a real device with real rings, over a real libslirp.
class Guest {
 public:
  explicit Guest(const UserNetwork::Settings& settings = {})
      : device_(std::make_unique<UserNetwork>(settings, loop_), guest_mac) {
    Activation activation{
        .features = features,
        .interrupt = &interrupt_,
        .needs_reset = [] {},
        .call_again = [this](std::uint16_t queue) { loop_.post([this, queue] { device_.on_notify(queue); }); }};
    for (FakeDriver& driver : drivers_) activation.queues.emplace_back(driver.activate(features));
    for (int i = 0; i < 32; ++i) rx_.writable(2048).offer();
    loop_.post([this, activation = std::move(activation)]() mutable {
      device_.activate(std::move(activation));
      device_.on_notify(0);
    });
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~Guest() {
    loop_.run_sync([this] { device_.reset(); });
    loop_.stop();
    thread_.join();
  }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  void send(const Bytes& frame) {
    loop_.run_sync([&] {
      while (tx_.take_used()) {
      }
      tx_.readable(net::Header{}).readable(std::as_bytes(std::span(frame))).offer();
      device_.on_notify(1);
    });
  }
  /// The next frame for which `wanted` returns something; ARP is answered on the way.
  template <typename Wanted>
  auto await(Wanted&& wanted) {
    for (const auto deadline = std::chrono::steady_clock::now() + 60s; std::chrono::steady_clock::now() < deadline;) {
      std::optional<Bytes> frame;
      loop_.run_sync([&] { frame = take(); });
      if (!frame) {
        std::this_thread::sleep_for(1ms);
        continue;
      }
      if (get(*frame, 12, 2) == 0x0806 && get(*frame, 20, 2) == 1) answer_arp(*frame);
      if (auto found = wanted(*frame)) return found;
    }
    throw std::runtime_error("no such frame came");
  }
  Segment await_segment(std::uint8_t flags) {
    return *await([&](const Bytes& frame) {
      auto segment = Segment::parse(frame);
      if (segment && (segment->flags & flags) != flags) segment.reset();
      return segment;
    });
  }

 private:
  static constexpr std::uint64_t features = feature::version_1 | feature::event_idx | net::feature_guest_csum;

  std::optional<Bytes> take() {
    const auto used = rx_.take_used();
    if (!used) return std::nullopt;
    rx_.writable(2048).offer();
    if (rx_.should_notify()) device_.on_notify(0);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(used->bytes.data());
    CHECK(bytes[0] == net::header_data_valid);
    return Bytes(bytes + sizeof(net::Header), bytes + used->written);
  }
  void answer_arp(const Bytes& request) {
    Bytes answer(request.begin() + 6, request.begin() + 12);
    append(answer, Bytes(guest_mac.begin(), guest_mac.end()));
    put(answer, 0x0806'0001'0800, 6);
    put(answer, 0x0604'0002, 4);
    append(answer, Bytes(guest_mac.begin(), guest_mac.end()));
    put(answer, guest_ip, 4);
    append(answer, Bytes(request.begin() + 22, request.begin() + 32));
    send(answer);
  }

  GuestMemory memory_{64 << 20};
  EventLoop loop_;
  InterruptLine interrupt_;
  Net device_;
  // Rings whose buffers are all in flight for the whole test use much of their span.
  std::vector<FakeDriver> drivers_{FakeDriver(memory_, Gpa{0x100000}, 256, 16 << 20),
                                   FakeDriver(memory_, Gpa{0x1100000}, 256, 16 << 20),
                                   FakeDriver(memory_, Gpa{0x2100000}, 256)};
  FakeDriver& rx_ = drivers_[0];
  FakeDriver& tx_ = drivers_[1];
  std::thread thread_;
};

/// A socket on 127.0.0.1 and its port.
struct Server {
  UniqueFd socket;
  std::uint16_t port = 0;

  explicit Server(int type) : socket(::socket(AF_INET, type | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
    if (type == SOCK_STREAM) REQUIRE(::listen(socket.get(), 8) == 0);
    REQUIRE(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port = ntohs(address.sin_port);
  }
};

/// A port that nobody has now.
std::uint16_t free_port(int type = SOCK_STREAM) { return Server(type).port; }

UniqueFd connect_to(std::uint16_t port) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  REQUIRE(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return socket;
}

std::string receive_from(const UniqueFd& socket) {
  pollfd ready{.fd = socket.get(), .events = POLLIN, .revents = 0};
  std::array<char, 4096> buffer;
  if (::poll(&ready, 1, 60'000) != 1) return "nothing came";
  const ssize_t size = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
  return size < 0 ? "an error came" : std::string(buffer.data(), static_cast<std::size_t>(size));
}

}  // namespace

TEST_CASE("DHCP leases the address that PID 1 sets, too") {
  Guest guest;
  // RFC 2131: DHCPDISCOVER, with the magic cookie and one option.
  Bytes discover{1, 1, 6, 0};
  put(discover, 0x1234'5678, 4);
  discover.resize(28);
  append(discover, Bytes(guest_mac.begin(), guest_mac.end()));
  discover.resize(236);
  put(discover, 0x6382'5363, 4);
  append(discover, {53, 1, 1, 255});
  discover.resize(300);
  Bytes datagram;
  put(datagram, 68, 2);
  put(datagram, 67, 2);
  put(datagram, 8 + discover.size(), 2);
  put(datagram, 0, 2);
  append(datagram, discover);
  guest.send(ip_frame(17, 0, 0xFFFF'FFFF, datagram, true));
  const auto offered = *guest.await([](const Bytes& frame) -> std::optional<std::uint64_t> {
    const bool is_offer = frame.size() > 300 && frame[23] == 17 && get(frame, 36, 2) == 68;
    return is_offer ? std::optional(get(frame, 42 + 16, 4)) : std::nullopt;
  });
  CHECK(offered == guest_ip);
}

TEST_CASE("a TCP connection of the guest to 10.0.2.2 reaches the host's loopback, both ways") {
  const Server server(SOCK_STREAM);
  Guest guest;
  Segment segment{.from_port = 40000, .to_port = server.port, .sequence = 1000, .flags = tcp_syn};
  guest.send(segment.frame(host_ip));
  const UniqueFd accepted(::accept4(server.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(accepted);
  const Segment answer = guest.await_segment(tcp_syn | tcp_ack);
  CHECK(answer.acknowledged == 1001);
  segment = {.from_port = 40000,
             .to_port = server.port,
             .sequence = 1001,
             .acknowledged = answer.sequence + 1,
             .flags = tcp_ack,
             .data = "from the guest"};
  guest.send(segment.frame(host_ip));
  CHECK(receive_from(accepted) == "from the guest");
  REQUIRE(::send(accepted.get(), "from the host", 13, 0) == 13);
  const std::string received = *guest.await([](const Bytes& frame) -> std::optional<std::string> {
    const auto found = Segment::parse(frame);
    return found && !found->data.empty() ? std::optional(found->data) : std::nullopt;
  });
  CHECK(received == "from the host");
}

TEST_CASE("with no-host the guest does not reach the host's loopback") {
  const Server server(SOCK_STREAM);
  Guest guest({.host_loopback = false});
  guest.send(Segment{.from_port = 40000, .to_port = server.port, .sequence = 1000, .flags = tcp_syn}.frame(host_ip));
  // The answer to what came later says that the connection was dealt with.
  guest.send(arp_request());
  const auto answered = *guest.await([](const Bytes& frame) -> std::optional<bool> {
    return get(frame, 12, 2) == 0x0806 && get(frame, 20, 2) == 2 ? std::optional(true) : std::nullopt;
  });
  CHECK(answered);
  pollfd connection{.fd = server.socket.get(), .events = POLLIN, .revents = 0};
  CHECK(::poll(&connection, 1, 0) == 0);
}

TEST_CASE("a published port leads into the guest, many connections at once") {
  const std::uint16_t port = free_port();
  Guest guest({.forwards = {{.host_address = "127.0.0.1", .host_port = port, .guest_port = 80}}});
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(connect_to(port));
  // Each gets an answer of its own.
  for (int i = 0; i < 20; ++i) {
    const Segment opening = guest.await_segment(tcp_syn);
    CHECK(opening.to_port == 80);
    Segment answer{.from_port = 80,
                   .to_port = opening.from_port,
                   .sequence = 7000,
                   .acknowledged = opening.sequence + 1,
                   .flags = tcp_syn | tcp_ack};
    guest.send(answer.frame(host_ip));
    answer.sequence = 7001;
    answer.flags = tcp_ack | tcp_fin;
    answer.data = "from the guest";
    guest.send(answer.frame(host_ip));
  }
  for (const UniqueFd& client : clients) CHECK(receive_from(client) == "from the guest");
}

TEST_CASE("a published port of UDP") {
  const std::uint16_t port = free_port(SOCK_DGRAM);
  Guest guest({.forwards = {{.udp = true, .host_address = "127.0.0.1", .host_port = port, .guest_port = 53}}});
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  REQUIRE(::sendto(socket.get(), "question", 8, 0, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 8);
  const auto question = *guest.await([](const Bytes& frame) -> std::optional<std::string> {
    if (frame.size() < 50 || frame[23] != 17 || get(frame, 36, 2) != 53) return std::nullopt;
    return std::string(frame.begin() + 42, frame.begin() + 50);
  });
  CHECK(question == "question");
}

TEST_CASE("a port that is taken is refused by name, and nothing stays bound") {
  const Server taken(SOCK_STREAM);
  const std::uint16_t other = free_port();
  EventLoop loop;
  const auto make = [&] {
    UserNetwork({.forwards = {{.host_address = "127.0.0.1", .host_port = other, .guest_port = 1},
                              {.host_address = "127.0.0.1", .host_port = taken.port, .guest_port = 80}}},
                loop);
  };
  CHECK_THROWS_WITH(make(), Contains(fmt::format("publish 127.0.0.1:{}", taken.port)) && Contains("in use"));
  CHECK_THROWS_WITH(make(), Contains(fmt::format("publish 127.0.0.1:{}", taken.port)));
  CHECK_THROWS_WITH(UserNetwork({.forwards = {{.host_address = "nowhere", .host_port = 1, .guest_port = 1}}}, loop),
                    Contains("not an address"));
}

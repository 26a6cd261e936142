#include "devices/virtio/tap.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "devices/virtio/spec.h"
#include "tests/internet_checksum.h"

using namespace minivm;
using namespace minivm::virtio;
using namespace std::chrono_literals;

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr const char* name = "minivm-test";
constexpr const char* host_address = "192.168.5.1";
constexpr const char* guest_address = "192.168.5.2";
constexpr std::uint16_t host_port = 7777;
constexpr std::uint16_t guest_port = 5555;
constexpr int udp_segment = 103;  // linux/udp.h, UDP_SEGMENT
constexpr net::MacAddress guest_mac{0x02, 0, 0, 0, 0, 7};
constexpr std::uint64_t guest_uso = net::feature_guest_csum | net::feature_guest_uso4 | net::feature_guest_uso6;

/// Until the end of the test this thread has a network of its own (network_namespaces(7)).
class OwnNetwork {
 public:
  OwnNetwork() : before_(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) {
    entered_ = before_ && ::access("/dev/net/tun", W_OK) == 0 && ::unshare(CLONE_NEWNET) == 0;
    if (!entered_) WARN("skipped: no TAP interface without root and /dev/net/tun");
  }
  ~OwnNetwork() {
    if (entered_) ::setns(before_.get(), CLONE_NEWNET);
  }
  OwnNetwork(const OwnNetwork&) = delete;
  OwnNetwork& operator=(const OwnNetwork&) = delete;

  explicit operator bool() const { return entered_; }

 private:
  UniqueFd before_;
  bool entered_ = false;
};

sockaddr_in internet(const char* address, std::uint16_t port) {
  sockaddr_in result{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {}, .sin_zero = {}};
  ::inet_pton(AF_INET, address, &result.sin_addr);
  return result;
}

Bytes numbers(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
  return bytes;
}

/// A UDP datagram in an Ethernet frame.
struct [[gnu::packed]] DatagramHead {
  ether_header ethernet;
  iphdr ip;
  udphdr udp;
};

/// The host's side of a real TAP interface with an address, and a socket there.
struct Host {
  explicit Host(std::uint16_t queues) : tap(open_tap(name, queues), loop) {
    std::memcpy(request.ifr_name, name, std::strlen(name));
    set(SIOCSIFADDR, host_address);
    CHECK(::ioctl(socket.get(), SIOCGIFHWADDR, &request) == 0);
    std::memcpy(mac.data(), request.ifr_hwaddr.sa_data, mac.size());
    set_flags(IFF_UP | IFF_RUNNING);
    arpreq neighbour{};
    const sockaddr_in guest = internet(guest_address, 0);
    std::memcpy(&neighbour.arp_pa, &guest, sizeof guest);
    neighbour.arp_ha.sa_family = ARPHRD_ETHER;
    std::memcpy(neighbour.arp_ha.sa_data, guest_mac.data(), guest_mac.size());
    neighbour.arp_flags = ATF_PERM | ATF_COM;
    std::memcpy(neighbour.arp_dev, name, std::strlen(name));
    CHECK(::ioctl(socket.get(), SIOCSARP, &neighbour) == 0);
    const sockaddr_in here = internet(host_address, host_port);
    CHECK(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&here), sizeof here) == 0);
    tap.start({.frames = [](std::uint16_t) {}, .room = [](std::uint16_t) {}});
  }

  void set(unsigned long what, const char* address) {
    const sockaddr_in value = internet(address, 0);
    std::memcpy(&request.ifr_addr, &value, sizeof value);
    CHECK(::ioctl(socket.get(), what, &request) == 0);
  }
  void set_flags(int flags) {
    request.ifr_flags = static_cast<short>(flags);
    CHECK(::ioctl(socket.get(), SIOCSIFFLAGS, &request) == 0);
  }

  /// From the guest, by `pair`; in pieces of `piece` bytes that the host has to cut, 0: as it is.
  bool send(std::uint16_t pair, const Bytes& data, std::uint16_t piece = 0) {
    const auto udp_size = static_cast<std::uint16_t>(sizeof(udphdr) + data.size());
    DatagramHead head{};
    std::memcpy(head.ethernet.ether_dhost, mac.data(), mac.size());
    std::memcpy(head.ethernet.ether_shost, guest_mac.data(), guest_mac.size());
    head.ethernet.ether_type = htons(ETHERTYPE_IP);
    head.ip.version = 4;
    head.ip.ihl = 5;
    head.ip.ttl = 64;
    head.ip.protocol = IPPROTO_UDP;
    head.ip.tot_len = htons(static_cast<std::uint16_t>(sizeof head.ip + udp_size));
    head.ip.saddr = internet(guest_address, 0).sin_addr.s_addr;
    head.ip.daddr = internet(host_address, 0).sin_addr.s_addr;
    head.udp.uh_sport = htons(guest_port);
    head.udp.uh_dport = htons(host_port);
    head.udp.uh_ulen = htons(udp_size);
    Bytes ip(sizeof head.ip);
    std::memcpy(ip.data(), &head.ip, ip.size());
    head.ip.check = htons(test::internet_checksum(ip));
    // The driver leaves the checksum to the device: so far it sums addresses, protocol and length
    // (VirtIO 1.2, 5.1.6.2).
    Bytes pseudo(ip.begin() + offsetof(iphdr, saddr), ip.end());
    pseudo.insert(pseudo.end(), {0, IPPROTO_UDP, static_cast<std::uint8_t>(udp_size >> 8),
                                 static_cast<std::uint8_t>(udp_size & 0xFF)});
    head.udp.uh_sum = htons(test::internet_sum(pseudo));
    net::Header header{.flags = net::header_needs_csum,
                       .gso_type = piece == 0 ? net::gso_none : net::gso_udp_l4,
                       .hdr_len = sizeof head,
                       .gso_size = piece,
                       .csum_start = sizeof head.ethernet + sizeof head.ip,
                       .csum_offset = offsetof(udphdr, uh_sum)};
    Bytes payload = data;
    const std::array<iovec, 3> frame{
        {{&header, sizeof header}, {&head, sizeof head}, {payload.data(), payload.size()}}};
    return tap.send(pair, frame);
  }

  /// What the socket got next.
  std::optional<Bytes> heard() {
    Bytes data(65536);
    const timeval limit{.tv_sec = 2, .tv_usec = 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    const ssize_t size = ::recv(socket.get(), data.data(), data.size(), 0);
    if (size < 0) return std::nullopt;
    data.resize(static_cast<std::size_t>(size));
    return data;
  }

  void answer(const Bytes& data, int piece = 0) {
    const sockaddr_in guest = internet(guest_address, guest_port);
    ::setsockopt(socket.get(), IPPROTO_UDP, udp_segment, &piece, sizeof piece);
    CHECK(::sendto(socket.get(), data.data(), data.size(), 0, reinterpret_cast<const sockaddr*>(&guest),
                   sizeof guest) == static_cast<ssize_t>(data.size()));
  }

  struct Received {
    net::Header header;
    Bytes data;
  };
  /// The next datagram for the guest's port at `pair`; the host's kernel says other things, too.
  std::optional<Received> receive(std::uint16_t pair) {
    for (int tries = 0; tries < 1000; ++tries) {
      Received received{};
      DatagramHead head{};
      received.data.resize(65536);
      const std::array<iovec, 3> space{{{&received.header, sizeof received.header},
                                        {&head, sizeof head},
                                        {received.data.data(), received.data.size()}}};
      const std::size_t size = tap.receive(pair, space);
      if (size == 0) std::this_thread::sleep_for(2ms);
      if (size < sizeof received.header + sizeof head || head.ethernet.ether_type != htons(ETHERTYPE_IP) ||
          head.udp.uh_dport != htons(guest_port)) {
        continue;
      }
      received.data.resize(size - sizeof received.header - sizeof head);
      return received;
    }
    return std::nullopt;
  }

  EventLoop loop;
  Tap tap;
  UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq request{};
  net::MacAddress mac{};
};

bool has_uso(const Host& host) {
  if ((host.tap.offloads() & net::feature_host_uso) != 0) return true;
  WARN("skipped: this kernel's TAP interfaces cut no UDP (Linux 6.2 and later do)");
  return false;
}

}  // namespace

TEST_CASE("the host's kernel completes the checksum of what the driver sends") {
  const OwnNetwork network;
  if (!network) return;
  Host host(1);
  CHECK(host.send(0, numbers(500)));
  CHECK(host.heard() == numbers(500));
}

TEST_CASE("a datagram that the driver leaves whole arrives in pieces (USO)") {
  const OwnNetwork network;
  if (!network) return;
  Host host(1);
  if (!has_uso(host)) return;
  const Bytes data = numbers(2500);
  CHECK(host.send(0, data, 1000));
  CHECK(host.heard() == Bytes(data.begin(), data.begin() + 1000));
  CHECK(host.heard() == Bytes(data.begin() + 1000, data.begin() + 2000));
  CHECK(host.heard() == Bytes(data.begin() + 2000, data.end()));
}

TEST_CASE("what the host sends in pieces reaches a driver whole that takes it so (USO), and others in pieces") {
  const OwnNetwork network;
  if (!network) return;
  Host host(1);
  if (!has_uso(host)) return;
  const Bytes data = numbers(2500);
  host.tap.set_guest_offloads(guest_uso);
  host.answer(data, 1000);
  const auto whole = host.receive(0);
  REQUIRE(whole);
  CHECK(whole->header.gso_type == net::gso_udp_l4);
  CHECK(whole->header.gso_size == 1000);
  CHECK(whole->data == data);

  host.tap.set_guest_offloads(0);
  host.answer(data, 1000);
  for (const auto& [begin, end] : {std::pair{0, 1000}, std::pair{1000, 2000}, std::pair{2000, 2500}}) {
    const auto piece = host.receive(0);
    REQUIRE(piece);
    CHECK(piece->header.gso_type == net::gso_none);
    CHECK((piece->header.flags & net::header_needs_csum) == 0);
    CHECK(piece->data == Bytes(data.begin() + begin, data.begin() + end));
  }
}

TEST_CASE("answers come by the pair that asked, and by the first when others are not used") {
  const OwnNetwork network;
  if (!network) return;
  Host host(2);
  REQUIRE(host.tap.queue_pairs() == 2);
  host.tap.use_pairs(2);
  for (const std::uint16_t pair : std::array<std::uint16_t, 3>{1, 0, 1}) {
    CHECK(host.send(pair, numbers(100)));
    CHECK(host.heard() == numbers(100));
    host.answer(numbers(200));
    const auto received = host.receive(pair);
    REQUIRE(received);
    CHECK(received->data == numbers(200));
  }
  host.tap.use_pairs(1);
  host.answer(numbers(300));
  const auto received = host.receive(0);
  REQUIRE(received);
  CHECK(received->data == numbers(300));
}

TEST_CASE("an interface that is down loses frames, and goes on when it is up again") {
  const OwnNetwork network;
  if (!network) return;
  Host host(1);
  host.set_flags(0);
  CHECK(host.send(0, numbers(100)));
  host.set_flags(IFF_UP | IFF_RUNNING);
  CHECK(host.send(0, numbers(200)));
  CHECK(host.heard() == numbers(200));
}

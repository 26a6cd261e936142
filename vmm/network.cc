#include "vmm/network.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/random.h>

#include <utility>

#include "base/fd.h"
#include "devices/virtio/net.h"
#include "devices/virtio/tap.h"
#include "devices/virtio/user_network.h"

namespace minivm {
namespace {

/// Locally administered, for one station (IEEE 802, 8.2.2): two machines on one bridge must differ.
virtio::net::MacAddress random_mac() {
  virtio::net::MacAddress mac{};
  if (::getrandom(mac.data(), mac.size(), 0) != static_cast<ssize_t>(mac.size())) throw_errno("getrandom");
  mac[0] = static_cast<std::uint8_t>((mac[0] & 0xFC) | 0x02);
  return mac;
}

virtio::TapQueues open_tap(const Network& network) {
  return network.tap.empty() ? virtio::adopt_tap(network.tap_fds) : virtio::open_tap(network.tap, network.tap_queues);
}

std::unique_ptr<virtio::NetBackend> make_backend(const Network& network, const std::string& hostname, EventLoop& loop) {
  if (network.kind == Network::Kind::tap) return std::make_unique<virtio::Tap>(open_tap(network), loop);
  virtio::UserNetwork::Settings settings{.hostname = hostname, .host_loopback = network.host_loopback};
  for (const PublishedPort& port : network.ports) {
    settings.forwards.push_back({port.udp, port.host_address, port.host_port, port.guest_port});
  }
  return std::make_unique<virtio::UserNetwork>(settings, loop);
}

}  // namespace

std::unique_ptr<virtio::VirtioDevice> make_network_device(const Network& network, const std::string& hostname,
                                                          EventLoop& loop) {
  return std::make_unique<virtio::Net>(make_backend(network, hostname, loop),
                                       network.mac ? *network.mac : random_mac());
}

GuestNetwork guest_network(const Network& network) {
  using User = virtio::UserNetwork;
  if (network.kind == Network::Kind::user) {
    return {fmt::format("{},{}", User::guest_address, User::guest_address6),
            fmt::format("{},{}", User::host_address, User::host_address6), User::name_server};
  }
  return {fmt::format("{}", fmt::join(network.addresses, ",")), fmt::format("{}", fmt::join(network.gateways, ",")),
          fmt::format("{}", fmt::join(network.name_servers, ","))};
}

}  // namespace minivm

#include "guest-init/network.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/if_addr.h>
#include <net/if.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "guest-init/clock.h"
#include "guest-init/etc_file.h"
#include "guest-init/file.h"
#include "guest-init/netlink.h"
#include "guest-init/report.h"

namespace minivm::guest {
namespace {

constexpr std::uint32_t appear_ms = 5'000;

/// An IPv4 or IPv6 address and, after a slash, the size of its prefix.
struct Address {
  std::uint8_t family = 0;
  std::uint8_t prefix = 0;
  std::byte bytes[sizeof(in6_addr)];

  std::size_t size() const noexcept { return family == AF_INET ? sizeof(in_addr) : sizeof(in6_addr); }
  std::span<const std::byte> view() const noexcept { return {bytes, size()}; }
};

bool parse(std::string_view text, Address& address) noexcept {
  std::string_view prefix = text;
  const Text<64> host(take_field(prefix, '/'));
  address.family = host.view().contains(':') ? AF_INET6 : AF_INET;
  const auto size =
      prefix.empty() ? 8 * static_cast<std::uint32_t>(address.size()) : parse_number(prefix).value_or(999);
  address.prefix = static_cast<std::uint8_t>(size);
  return size <= 8 * address.size() && inet_pton(address.family, host.c_str(), address.bytes) == 1;
}

/// The index of the interface that has a device behind it; 0 when there is none yet.
unsigned find_interface() noexcept {
  DIR* const interfaces = opendir("/sys/class/net");
  if (interfaces == nullptr) return 0;
  unsigned index = 0;
  while (const dirent* entry = readdir(interfaces)) {
    const Path device = Path("/sys/class/net/").add(entry->d_name).add("/device");
    if (entry->d_name[0] != '.' && access(device.c_str(), F_OK) == 0) index = if_nametoindex(entry->d_name);
  }
  closedir(interfaces);
  return index;
}

class Setup {
 public:
  explicit Setup(unsigned interface) noexcept : interface_(interface) {}

  Outcome raise() noexcept {
    ifinfomsg link{};
    link.ifi_index = static_cast<int>(interface_);
    link.ifi_flags = IFF_UP;
    link.ifi_change = IFF_UP;
    netlink_.begin(RTM_NEWLINK, 0, link);
    return outcome("raise", "the network interface", netlink_.send());
  }

  Outcome add_address(std::string_view text) noexcept {
    Address address;
    if (!parse(text, address)) return Failure{"set address", text, EINVAL};
    ifaddrmsg message{};
    message.ifa_family = address.family;
    message.ifa_prefixlen = address.prefix;
    // Nobody else has it, so it is of use at once: a check for doubles takes a second.
    message.ifa_flags = address.family == AF_INET6 ? IFA_F_NODAD : 0;
    message.ifa_index = interface_;
    netlink_.begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, message);
    netlink_.add(IFA_LOCAL, address.view());
    netlink_.add(IFA_ADDRESS, address.view());
    return outcome("set address", text, netlink_.send(), address.family);
  }

  Outcome add_default_route(std::string_view text) noexcept {
    Address gateway;
    if (!parse(text, gateway)) return Failure{"set gateway", text, EINVAL};
    rtmsg message{};
    message.rtm_family = gateway.family;
    message.rtm_table = RT_TABLE_MAIN;
    message.rtm_protocol = RTPROT_BOOT;
    message.rtm_type = RTN_UNICAST;
    netlink_.begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, message);
    netlink_.add(RTA_GATEWAY, gateway.view());
    netlink_.add(RTA_OIF, std::as_bytes(std::span(&interface_, 1)));
    return outcome("set gateway", text, netlink_.send(), gateway.family);
  }

 private:
  /// A kernel may be without IPv6; the guest then goes without it, too.
  static Outcome outcome(const char* step, std::string_view object, int error, std::uint8_t family = AF_INET) noexcept {
    if (error == 0) return {};
    if (family != AF_INET6) return Failure{step, object, error};
    tell("skipped", Text<256>(object).add(": ").add(strerror(error)).view());
    return {};
  }

  unsigned interface_;
  Netlink netlink_;
};

/// `each` for every entry of a list, up to the first failure.
template <typename Each>
Outcome for_each(std::string_view list, Each&& each) noexcept {
  while (!list.empty()) {
    if (auto failure = each(take_field(list, ','))) return failure;
  }
  return {};
}

void name_servers(std::string_view servers, bool init_is_ours) noexcept {
  Text<1024> content;
  for_each(servers, [&](std::string_view server) -> Outcome {
    content.add("nameserver ").add(server).add("\n");
    return {};
  });
  if (!content.empty()) provide_etc_file("resolv.conf", content.view(), init_is_ours);
}

void name_hosts(std::string_view hostname) noexcept {
  Text<512> content("127.0.0.1 localhost\n::1 localhost\n");
  if (!hostname.empty()) content.add("127.0.1.1 ").add(hostname).add("\n");
  provide_etc_file("hosts", content.view(), false);
}

}  // namespace

Outcome set_up_network(const protocol::GuestConfig& config, bool init_is_ours) noexcept {
  if ((config.flags & protocol::GuestConfig::network) == 0) return {};
  Patience patience(appear_ms);
  unsigned interface = find_interface();
  while (interface == 0) {
    if (!patience.wait()) return Failure{"find", "the network interface", ENODEV};
    interface = find_interface();
  }
  Setup setup(interface);
  if (auto failure = setup.raise()) return failure;
  if (auto failure = for_each(config.addresses, [&](auto text) { return setup.add_address(text); })) return failure;
  if (auto failure = for_each(config.gateways, [&](auto text) { return setup.add_default_route(text); }))
    return failure;
  name_servers(config.name_servers, init_is_ours);
  name_hosts(config.hostname);
  return {};
}

}  // namespace minivm::guest

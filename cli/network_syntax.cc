#include "cli/network_syntax.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <stdexcept>
#include <string_view>

namespace minivm {
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    words.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

std::optional<unsigned> parse_number(std::string_view text, unsigned largest, int base = 10) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc() || end != text.data() + text.size() || number > largest) return std::nullopt;
  return number;
}

/// AF_INET, AF_INET6, or 0 for what is no address.
int family_of(const std::string& address) {
  in6_addr bytes{};
  for (const int family : {AF_INET, AF_INET6}) {
    if (::inet_pton(family, address.c_str(), &bytes) == 1) return family;
  }
  return 0;
}

std::string checked_address(const std::string& address) {
  if (family_of(address) == 0) throw std::invalid_argument(address + ": not an IPv4 or IPv6 address");
  return address;
}

std::string checked_prefix(const std::string& text) {
  const std::size_t slash = std::min(text.find('/'), text.size());
  const int family = family_of(text.substr(0, slash));
  const bool has_prefix = slash < text.size() && parse_number(text.substr(slash + 1), family == AF_INET ? 32 : 128);
  if (family == 0 || !has_prefix) throw std::invalid_argument(text + ": not ADDRESS/PREFIX");
  return text;
}

void take_descriptors(Network& network, const std::string& text) {
  for (const std::string& word : split(text, ':')) {
    const auto fd = parse_number(word, 1U << 20);
    if (!fd) throw std::invalid_argument(text + ": not file descriptors with colons in between");
    network.tap_fds.push_back(static_cast<int>(*fd));
  }
}

/// One word of a TAP network behind its name.
void take_tap_word(Network& network, const std::string& word) {
  const std::size_t equals = std::min(word.find('='), word.size());
  const std::string key = word.substr(0, equals);
  const std::string value = equals < word.size() ? word.substr(equals + 1) : "";
  if (key == "ip") {
    network.addresses.push_back(checked_prefix(value));
  } else if (key == "gw") {
    network.gateways.push_back(checked_address(value));
  } else if (key == "dns") {
    network.name_servers.push_back(checked_address(value));
  } else if (key == "queues" && network.tap_fds.empty()) {
    const auto queues = parse_number(value, MachineConfig::max_cpus);
    if (!queues || *queues == 0)
      throw std::invalid_argument(fmt::format("{}: not 1 to {}", word, MachineConfig::max_cpus));
    network.tap_queues = static_cast<std::uint16_t>(*queues);
  } else {
    throw std::invalid_argument(
        fmt::format("{}: not ip=, gw=, dns={}", word, network.tap_fds.empty() ? " or queues=" : ""));
  }
}

}  // namespace

Network parse_network(const std::string& text) {
  Network network;
  const std::vector<std::string> words = split(text, ',');
  const std::string& kind = words.front();
  if (text == "none") return network;
  if (kind == "user") {
    network.kind = Network::Kind::user;
    network.host_loopback = words.size() == 1;
    if (words.size() == 1 || (words.size() == 2 && words[1] == "no-host")) return network;
    throw std::invalid_argument(text + ": user takes no-host and nothing else");
  }
  network.kind = Network::Kind::tap;
  if (kind.starts_with("tap=") && kind.size() > 4) {
    network.tap = kind.substr(4);
  } else if (kind.starts_with("fd=")) {
    take_descriptors(network, kind.substr(3));
  } else {
    throw std::invalid_argument(text + ": not none, user, tap=NAME or fd=N");
  }
  for (std::size_t i = 1; i < words.size(); ++i) take_tap_word(network, words[i]);
  return network;
}

PublishedPort parse_published_port(const std::string& text) {
  PublishedPort port;
  std::string rest = text;
  if (rest.ends_with("/udp") || rest.ends_with("/tcp")) {
    port.udp = rest.ends_with("/udp");
    rest.resize(rest.size() - 4);
  }
  const auto take_port = [&] {
    const std::size_t colon = rest.rfind(':');
    const auto number = parse_number(rest.substr(colon == std::string::npos ? 0 : colon + 1), 65535);
    if (!number || *number == 0)
      throw std::invalid_argument(text + ": not [ADDRESS:]HOST:GUEST[/udp], with ports of 1 to 65535");
    rest.resize(colon == std::string::npos ? 0 : colon);
    return static_cast<std::uint16_t>(*number);
  };
  port.guest_port = take_port();
  port.host_port = take_port();
  if (rest.empty()) return port;
  if (rest.starts_with('[') && rest.ends_with(']')) rest = rest.substr(1, rest.size() - 2);
  if (family_of(rest) == 0) throw std::invalid_argument(fmt::format("{}: {} is no IPv4 or IPv6 address", text, rest));
  port.host_address = rest;
  return port;
}

std::array<std::uint8_t, 6> parse_mac(const std::string& text) {
  std::array<std::uint8_t, 6> mac{};
  const std::vector<std::string> words = split(text, ':');
  bool good = words.size() == mac.size();
  for (std::size_t i = 0; good && i < mac.size(); ++i) {
    const auto byte = words[i].size() == 2 ? parse_number(words[i], 0xFF, 16) : std::nullopt;
    good = byte.has_value();
    mac[i] = static_cast<std::uint8_t>(byte.value_or(0));
  }
  if (!good) throw std::invalid_argument(text + ": not six bytes such as 02:00:00:00:00:01");
  if ((mac[0] & 1) != 0) throw std::invalid_argument(text + ": is the address of a group");
  return mac;
}

}  // namespace minivm

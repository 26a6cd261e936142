#pragma once

#include <string>

#include "minivm/config.h"

namespace minivm {

/// What --net, --publish and --mac say. All throw std::invalid_argument that quotes the word.

/// "none", "user[,no-host]", "tap=NAME[,queues=N]" or "fd=N[:N...]", the last two with "ip=ADDRESS/PREFIX",
/// "gw=ADDRESS" and "dns=ADDRESS", each as often as needed.
Network parse_network(const std::string& text);
/// "[ADDRESS:]HOST:GUEST[/tcp|/udp]", an IPv6 address in brackets.
PublishedPort parse_published_port(const std::string& text);
/// Six bytes of hexadecimal digits with colons in between, of one station.
std::array<std::uint8_t, 6> parse_mac(const std::string& text);

}  // namespace minivm

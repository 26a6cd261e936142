#include "cli/network_syntax.h"

#include <catch2/catch.hpp>

using namespace minivm;
using Catch::Matchers::Contains;

TEST_CASE("--net: the kinds of network") {
  CHECK(parse_network("none").kind == Network::Kind::none);
  CHECK(parse_network("user").kind == Network::Kind::user);
  CHECK(parse_network("user").host_loopback);
  CHECK_FALSE(parse_network("user,no-host").host_loopback);

  const Network tap =
      parse_network("tap=tap0,queues=4,ip=10.1.0.2/16,ip=fd00::2/64,gw=10.1.0.1,dns=10.1.0.1,dns=9.9.9.9");
  CHECK(tap.kind == Network::Kind::tap);
  CHECK(tap.tap == "tap0");
  CHECK(tap.tap_queues == 4);
  CHECK(tap.addresses == std::vector<std::string>{"10.1.0.2/16", "fd00::2/64"});
  CHECK(tap.gateways == std::vector<std::string>{"10.1.0.1"});
  CHECK(tap.name_servers == std::vector<std::string>{"10.1.0.1", "9.9.9.9"});

  const Network opened = parse_network("fd=7:8,ip=10.1.0.2/16");
  CHECK(opened.kind == Network::Kind::tap);
  CHECK(opened.tap_fds == std::vector<int>{7, 8});
}

TEST_CASE("--net: what makes no sense is refused by name") {
  for (const std::string wrong : {"",
                                  "users",
                                  "user,",
                                  "user,host",
                                  "none,ip=1.2.3.4/8",
                                  "tap=",
                                  "tap",
                                  "fd=",
                                  "fd=x",
                                  "fd=3:",
                                  "fd=-1",
                                  "fd=3,queues=2",
                                  "tap=t,queues=0",
                                  "tap=t,queues=65",
                                  "tap=t,queues=",
                                  "tap=t,ip=10.0.0.1",
                                  "tap=t,ip=10.0.0.1/33",
                                  "tap=t,ip=10.0.0/8",
                                  "tap=t,ip=fd00::1/129",
                                  "tap=t,gw=10.0.0.1/8",
                                  "tap=t,dns=",
                                  "tap=t,mtu=9000",
                                  "tap=t,"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(parse_network(wrong), std::invalid_argument);
  }
}

TEST_CASE("--publish: ports of loopback unless told") {
  const PublishedPort plain = parse_published_port("8080:80");
  CHECK(plain.host_address == "127.0.0.1");
  CHECK(plain.host_port == 8080);
  CHECK(plain.guest_port == 80);
  CHECK_FALSE(plain.udp);
  CHECK(parse_published_port("53:53/udp").udp);
  CHECK_FALSE(parse_published_port("53:53/tcp").udp);
  CHECK(parse_published_port("0.0.0.0:1:2").host_address == "0.0.0.0");
  CHECK(parse_published_port("[::1]:1:2").host_address == "::1");
  for (const std::string wrong : {"", "80", ":80", "80:", "0:80", "80:0", "80:65536", "80:80/sctp", "x:80:80",
                                  "1.2.3:80:80", "80:80:80:80", "-1:80"}) {
    CAPTURE(wrong);
    CHECK_THROWS_WITH(parse_published_port(wrong), Contains(wrong));
  }
}

TEST_CASE("--mac: an address of one station") {
  CHECK(parse_mac("02:00:5e:10:00:Ff") == std::array<std::uint8_t, 6>{0x02, 0, 0x5E, 0x10, 0, 0xFF});
  for (const std::string wrong : {"", "02:00:5e:10:00", "02:00:5e:10:00:0", "02:00:5e:10:00:gg", "02-00-5e-10-00-01",
                                  "02:00:5e:10:00:01:02", "03:00:00:00:00:01", "ff:ff:ff:ff:ff:ff"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(parse_mac(wrong), std::invalid_argument);
  }
}

#include "cli/resource_limits.h"

#include <sys/resource.h>

#include <catch2/catch.hpp>
#include <stdexcept>

namespace minivm {
namespace {

TEST_CASE("A limit is a name and one or two values") {
  const Limit both = parse_limit("nofile=1024:4096");
  CHECK(both.resource == RLIMIT_NOFILE);
  CHECK(both.soft == 1024);
  CHECK(both.hard == 4096);
  const Limit one = parse_limit("core=0");
  CHECK(one.resource == RLIMIT_CORE);
  CHECK(one.soft == 0);
  CHECK(one.hard == 0);
  const Limit open = parse_limit("stack=8388608:unlimited");
  CHECK(open.soft == 8388608);
  CHECK(open.hard == Limit::unlimited);
  CHECK(parse_limit("memlock=-1").soft == Limit::unlimited);
}

TEST_CASE("What is no limit is refused") {
  for (const char* text :
       {"", "nofile", "nofile=", "nofile=x", "nofile=1:", "nofile=:1", "nofile=2:1", "nofile=-2", "nofile=unlimited:5",
        "files=1", "NOFILE=1", "nofile=1:2:3", "nofile=99999999999999999999"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_limit(text), std::invalid_argument);
  }
}

TEST_CASE("A umask is octal") {
  CHECK(parse_umask("022") == 022);
  CHECK(parse_umask("77") == 077);
  CHECK(parse_umask("0") == 0);
  for (const char* text : {"", "8", "1000", "-1", "u=rwx", "0o22"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_umask(text), std::invalid_argument);
  }
}

}  // namespace
}  // namespace minivm

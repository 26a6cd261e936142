#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <string>
#include <vector>

#include "freestanding/text.h"
#include "guest-init/file.h"
#include "guest-init/oom_log.h"
#include "guest-init/users.h"
#include "tests/scratch_directory.h"

using namespace minivm::guest;
using minivm::Text;
using minivm::test::ScratchDirectory;

namespace {

/// A passwd and a group file with the cases that real ones have.
struct Users {
  Users()
      : passwd(directory.write("passwd",
                               "# comment\n"
                               "root:x:0:0:root:/root:/bin/bash\n"
                               "broken:x:notanumber:1:::\n"
                               "1000:x:77:77:a name of digits:/odd:/bin/sh\n"
                               "alice:x:1000:100:Alice,,,:/home/alice:/bin/zsh\n"
                               "bare:x:1001:1001::")),
        group(directory.write("group",
                              "root:x:0:\n"
                              "users:x:100:alice\n"
                              "audio:x:29:bob,alice\n"
                              "video:x:44:alicex,bob\n"
                              "disk:x:6:root")) {}

  int find(std::string_view user) { return find_identity(user, {passwd.c_str(), group.c_str()}, identity); }
  std::vector<gid_t> groups() const {
    return {identity.groups.begin(), identity.groups.begin() + static_cast<std::ptrdiff_t>(identity.group_count)};
  }

  ScratchDirectory directory;
  std::string passwd;
  std::string group;
  Identity identity;
};

}  // namespace

TEST_CASE("a user is found by name, with home, shell and groups") {
  Users users;
  REQUIRE(users.find("alice") == 0);
  CHECK(users.identity.uid == 1000);
  CHECK(users.identity.gid == 100);
  CHECK(users.identity.home.view() == "/home/alice");
  CHECK(users.identity.shell.view() == "/bin/zsh");
  CHECK(users.groups() == std::vector<gid_t>{29});
}

TEST_CASE("a number is a uid, even where a name looks like it") {
  Users users;
  REQUIRE(users.find("1000") == 0);
  CHECK(users.identity.uid == 1000);
  CHECK(users.identity.name.view() == "alice");
}

TEST_CASE("a uid without an entry has group 0 and home /") {
  Users users;
  REQUIRE(users.find("4711") == 0);
  CHECK(users.identity.uid == 4711);
  CHECK(users.identity.gid == 0);
  CHECK(users.identity.home.view() == "/");
  CHECK(users.groups().empty());
}

TEST_CASE("a group in the request replaces all of the user's") {
  Users users;
  REQUIRE(users.find("alice:video") == 0);
  CHECK(users.identity.gid == 44);
  CHECK(users.groups().empty());
  REQUIRE(users.find("alice:4712") == 0);
  CHECK(users.identity.gid == 4712);
}

TEST_CASE("no user is root, with or without files") {
  Users users;
  REQUIRE(users.find("") == 0);
  CHECK(users.identity.uid == 0);
  CHECK(users.identity.shell.view() == "/bin/bash");
  CHECK(users.groups() == std::vector<gid_t>{6});

  users.passwd = "/no/such/passwd";
  users.group = "/no/such/group";
  REQUIRE(users.find("") == 0);
  CHECK(users.identity.uid == 0);
  CHECK(users.identity.home.view() == "/root");
}

TEST_CASE("names that are in no file are refused") {
  Users users;
  CHECK(users.find("nobody-here") == ENOENT);
  CHECK(users.find("broken") == ENOENT);
  CHECK(users.find("alice:no-such-group") == ENOENT);
}

TEST_CASE("an entry without home and shell gets usable ones") {
  Users users;
  REQUIRE(users.find("bare") == 0);
  CHECK(users.identity.home.view() == "/");
  CHECK(users.identity.shell.view() == "/bin/sh");
}

TEST_CASE("lines too long for the buffer are skipped, those around them are not") {
  ScratchDirectory directory;
  const std::string file = directory.write("lines", "first\n" + std::string(20'000, 'x') + "\nlast");
  Lines lines(file.c_str());
  CHECK(lines.next() == "first");
  CHECK(lines.next() == "last");
  CHECK_FALSE(lines.next());
}

TEST_CASE("lines across the edge of the buffer stay whole") {
  ScratchDirectory directory;
  std::string content;
  for (int i = 0; i < 5000; ++i) content += "line " + std::to_string(i) + "\n";
  const std::string file = directory.write("lines", content);
  Lines lines(file.c_str());
  for (int i = 0; i < 5000; ++i) REQUIRE(lines.next() == "line " + std::to_string(i));
  CHECK_FALSE(lines.next());
}

TEST_CASE("a bounded text cuts off and says so") {
  Text<8> text("123");
  text.add("4567");
  CHECK(text.view() == "1234567");
  CHECK_FALSE(text.cut());
  text.add("8");
  CHECK(text.view() == "1234567");
  CHECK(text.cut());
  CHECK(Text<32>("n=").add_number(0).add(" ").add_number(18446744073709551615ULL).view() == "n=0 18446744073709551615");
}

TEST_CASE("numbers are decimal digits and nothing else") {
  CHECK(parse_number("0") == 0U);
  CHECK(parse_number("4294967295") == 4294967295U);
  CHECK_FALSE(parse_number("4294967296"));
  CHECK_FALSE(parse_number("99999999999"));
  CHECK_FALSE(parse_number(""));
  CHECK_FALSE(parse_number("-1"));
  CHECK_FALSE(parse_number("1 "));
}

TEST_CASE("the kernel's words for an OOM kill name the process") {
  CHECK(oom_victim("3,551,8712345,-;Out of memory: Killed process 123 (stress) total-vm:1kB") == 123);
  CHECK(oom_victim("3,9,1,-;Memory cgroup out of memory: Killed process 4567 (python3) total-vm:1kB") == 4567);
  CHECK(oom_victim("6,1,1,-;Killed process 123 (stress)") == 0);
  CHECK(oom_victim("3,1,1,-;Out of memory: Killed process x") == 0);
  CHECK(oom_victim("") == 0);
}

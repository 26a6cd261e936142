#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>

#include "guest-init/etc_file.h"
#include "guest-init/netlink.h"
#include "tests/scratch_directory.h"

using namespace minivm::guest;
using minivm::test::ScratchDirectory;

namespace {

constexpr int cannot = 77;

/// Runs `body` in a process whose mounts, network and rights are its own; what it returns, 77 where the host forbids
/// that.
int apart(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    const int spaces = CLONE_NEWNS | CLONE_NEWNET | (::geteuid() == 0 ? 0 : CLONE_NEWUSER);
    if (::unshare(spaces) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) ::_exit(cannot);
    ::_exit(body());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string content_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// A root of a guest in a directory, entered by `apart`.
struct Root {
  ScratchDirectory directory;
  std::string path = directory.path("root");

  Root() {
    for (const char* each : {"", "/etc", "/run", "/proc", "/elsewhere"}) std::filesystem::create_directory(path + each);
  }
  /// In it, provides resolv.conf and returns whether the guest then reads `seen`.
  bool provides(bool cover, const std::string& seen, bool read_only = false) const {
    const int result = apart([&] {
      if (::mount("/proc", (path + "/proc").c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0) return cannot;
      if (read_only && (::mount(path.c_str(), path.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0 ||
                        ::mount(nullptr, path.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) != 0)) {
        return cannot;
      }
      if (::chroot(path.c_str()) != 0 || ::chdir("/") != 0) return cannot;
      provide_etc_file("resolv.conf", "nameserver 10.0.2.3\n", cover);
      return content_of("/etc/resolv.conf") == seen ? 0 : 1;
    });
    if (result == cannot) WARN("skipped: no namespaces here");
    return result == 0 || result == cannot;
  }
  std::string file() const { return path + "/etc/resolv.conf"; }
};

const std::string ours = "nameserver 10.0.2.3\n";
const std::string theirs = "nameserver 192.0.2.1\n";

}  // namespace

TEST_CASE("a missing file of /etc is made") {
  const Root root;
  CHECK(root.provides(true, ours));
}

TEST_CASE("a file that is there is covered, and stays what it was on the disk") {
  const Root root;
  std::ofstream(root.file()) << theirs;
  CHECK(root.provides(true, ours));
  CHECK(content_of(root.file()) == theirs);
}

TEST_CASE("a file that the distribution's init looks after is left alone") {
  const Root root;
  std::ofstream(root.file()) << theirs;
  CHECK(root.provides(false, theirs));
}

TEST_CASE("a link into /run gets its file; no other link is followed (rule 6)") {
  const Root root;
  SECTION("of systemd-resolved") {
    std::filesystem::create_symlink("../run/systemd/resolve/stub-resolv.conf", root.file());
    CHECK(root.provides(true, ours));
  }
  SECTION("elsewhere") {
    std::filesystem::create_symlink("/elsewhere/file", root.file());
    CHECK(root.provides(true, ""));
    CHECK(std::filesystem::is_empty(root.path + "/elsewhere"));
  }
  SECTION("elsewhere through /run") {
    std::filesystem::create_symlink("/run/../elsewhere/file", root.file());
    CHECK(root.provides(true, ""));
    CHECK(std::filesystem::is_empty(root.path + "/elsewhere"));
  }
}

TEST_CASE("a read-only root is no reason to fail (rule 6)") {
  const Root root;
  CHECK(root.provides(true, "", true));
}

TEST_CASE("netlink raises an interface, and tells what the kernel refuses") {
  const int result = apart([] {
    const unsigned index = ::if_nametoindex("lo");
    Netlink netlink;
    ifinfomsg link{};
    link.ifi_index = static_cast<int>(index);
    link.ifi_flags = IFF_UP;
    link.ifi_change = IFF_UP;
    netlink.begin(RTM_NEWLINK, 0, link);
    if (netlink.send() != 0) return 1;
    ifaddrmsg address{};
    address.ifa_family = AF_INET;
    address.ifa_prefixlen = 24;
    address.ifa_index = index;
    const std::byte bytes[] = {std::byte{192}, std::byte{0}, std::byte{2}, std::byte{1}};
    netlink.begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address);
    netlink.add(IFA_LOCAL, bytes);
    netlink.add(IFA_ADDRESS, bytes);
    if (netlink.send() != 0) return 2;
    netlink.begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address);
    netlink.add(IFA_LOCAL, bytes);
    netlink.add(IFA_ADDRESS, bytes);
    if (netlink.send() != EEXIST) return 3;
    address.ifa_index = index + 1000;
    netlink.begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address);
    netlink.add(IFA_LOCAL, bytes);
    return netlink.send() == ENODEV ? 0 : 4;
  });
  if (result == cannot) WARN("skipped: no namespaces here");
  CHECK((result == 0 || result == cannot));
}

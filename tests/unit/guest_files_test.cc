#include "vmm/guest_files.h"

#include <catch2/catch.hpp>
#include <cstdlib>

#include "tests/scratch_directory.h"

namespace minivm {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;
using Catch::Matchers::StartsWith;

/// The names that cpio finds in the archive, in order.
std::string names(const boot::Initramfs& initramfs) {
  std::vector<std::byte> bytes(initramfs.size());
  initramfs.write(bytes);
  const test::ScratchDirectory scratch;
  scratch.write("archive", bytes);
  return scratch.run("cpio -t --quiet < archive").output;
}

TEST_CASE("A root of the user's own gets PID 1, its configuration and the modules in load order") {
  const test::ScratchDirectory scratch;
  const std::vector<std::string> modules{scratch.write("b.ko", "module b"), scratch.write("a.ko", "module a")};
  const MachineConfig config{.root = {.kind = Root::Kind::disk, .disk = {.path = "root.img"}}};
  CHECK(names(make_initramfs(config, modules, "ext4")) ==
        "minivm\nminivm/init\nminivm/config\nminivm/modules\nminivm/modules/000-b.ko\nminivm/modules/001-a.ko\n");
}

TEST_CASE("A packed module is unpacked on the host, under the name that the guest loads") {
  const test::ScratchDirectory scratch;
  scratch.write("a.ko", "module a");
  REQUIRE(scratch.run("gzip a.ko").status == 0);
  const MachineConfig config{.root = {.kind = Root::Kind::disk}};
  CHECK_THAT(names(make_initramfs(config, {scratch.path("a.ko.gz")}, "")), EndsWith("minivm/modules/000-a.ko\n"));
}

TEST_CASE("A host file that is not there is named") {
  const MachineConfig config{.initrd = "/no/such/initrd", .root = {.kind = Root::Kind::disk}};
  CHECK_THROWS_WITH(make_initramfs(config, {}, ""), Contains("/no/such/initrd"));
}

TEST_CASE("A host name that the configuration cannot hold is refused") {
  const MachineConfig config{.root = {.kind = Root::Kind::disk}, .hostname = std::string(10'000, 'x')};
  CHECK_THROWS_WITH(make_initramfs(config, {}, ""), Contains("host name"));
}

TEST_CASE("The user's words come last on the command line, so that they win") {
  CHECK_THAT(make_command_line({.append = "quiet loglevel=7"}, {}), EndsWith(" quiet loglevel=7"));
  CHECK_THAT(make_command_line({}, {}), StartsWith("quiet "));
  CHECK_THAT(make_command_line({.verbose_guest = true}, {}), !StartsWith("quiet "));
}

TEST_CASE("The command line says what the machine has") {
  CHECK_THAT(make_command_line({}, {}), Contains("rdinit=/minivm/init") && Contains("reboot=a"));
  CHECK_THAT(make_command_line({}, {}), Contains(" console=ttyS0 ") && !Contains("hvc0"));
  CHECK_THAT(make_command_line({}, {.on_console_port = true}),
             Contains(" earlycon=uart8250,io,0x3f8 console=hvc0 ") && !Contains("ttyS0"));
  CHECK_THAT(make_command_line({}, {.discovery = boot::Discovery::fdt}), Contains("reboot=t") && Contains("pci=off"));
  CHECK_THAT(make_command_line({}, {.discovery = boot::Discovery::command_line}), Contains("acpi=off"));
  CHECK_THAT(make_command_line({}, {}), Contains("pci=conf1,noearly") && !Contains("acpi=off"));
  CHECK_THAT(make_command_line({}, {.transport = boot::Transport::pci}), !Contains("pci="));
}

}  // namespace
}  // namespace minivm

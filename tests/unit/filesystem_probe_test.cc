#include "vmm/filesystem_probe.h"

#include <catch2/catch.hpp>
#include <string>

#include "tests/scratch_directory.h"

namespace minivm {
namespace {

using test::ScratchDirectory;

/// An image with `magic` where the file system's superblock has it.
std::string image(const ScratchDirectory& directory, std::size_t offset, std::string_view magic) {
  std::string content(offset + 4096, '\0');
  content.replace(offset, magic.size(), magic);
  return directory.write("image", content);
}

TEST_CASE("What mke2fs makes is mounted as ext4, whichever ext it is") {
  const ScratchDirectory directory;
  const char* type = GENERATE("ext2", "ext3", "ext4");
  CAPTURE(type);
  const auto made = directory.run(std::string("PATH=$PATH:/usr/sbin mke2fs -q -t ") + type + " root.img 4M");
  INFO(made.output);
  REQUIRE(made.status == 0);
  CHECK(probe_filesystem(directory.path("root.img")) == "ext4");
}

TEST_CASE("Each known file system is told by its superblock") {
  using namespace std::string_view_literals;
  const ScratchDirectory directory;
  CHECK(probe_filesystem(image(directory, 0, "hsqs")) == "squashfs");
  CHECK(probe_filesystem(image(directory, 1024, "\xE2\xE1\xF5\xE0"sv)) == "erofs");  // 0xE0F5E1E2
  CHECK(probe_filesystem(image(directory, 0, "XFSB")) == "xfs");
  CHECK(probe_filesystem(image(directory, 0x10040, "_BHRfS_M")) == "btrfs");
  CHECK(probe_filesystem(image(directory, 1024, "\x10\x20\xF5\xF2"sv)) == "f2fs");  // 0xF2F52010
}

TEST_CASE("What is not known has no name") {
  const ScratchDirectory directory;
  CHECK(probe_filesystem(image(directory, 0, "")).empty());
  CHECK(probe_filesystem(image(directory, 1, "hsqs")).empty());
  CHECK(probe_filesystem(directory.write("empty", "")).empty());
  CHECK(probe_filesystem(directory.write("short", "hsq")).empty());
}

TEST_CASE("What cannot be read has no name, and nobody waits for it") {
  const ScratchDirectory directory;
  CHECK(probe_filesystem(directory.path("none")).empty());
  CHECK(probe_filesystem(directory.path()).empty());
  REQUIRE(directory.run("mkfifo pipe").status == 0);
  CHECK(probe_filesystem(directory.path("pipe")).empty());
}

}  // namespace
}  // namespace minivm

#include "boot/initramfs.h"

#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <system_error>

#include "tests/scratch_directory.h"

namespace minivm {
namespace {

using boot::Initramfs;

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// The archive, written over memory that is not zero.
std::vector<std::byte> archive_of(const Initramfs& initramfs) {
  std::vector<std::byte> memory(initramfs.size(), std::byte{0xA5});
  initramfs.write(memory);
  return memory;
}

/// What cpio lists for one path: mode, links, owner, and so on up to the path.
std::string listing(const test::ScratchDirectory& directory, const std::string& path) {
  const auto result = directory.run("TZ=UTC cpio -itvn --quiet < archive | grep ' " + path + "$'");
  INFO(path);
  REQUIRE(result.status == 0);
  return result.output;
}

void unpack(const test::ScratchDirectory& directory) {
  const auto result = directory.run("mkdir out && cd out && cpio -id --quiet --no-preserve-owner < ../archive");
  INFO(result.output);
  REQUIRE(result.status == 0);
  REQUIRE(result.output.empty());
}

}  // namespace

TEST_CASE("cpio unpacks every kind of file with its content", "[initramfs]") {
  const test::ScratchDirectory directory;
  const std::string host_content(10'001, 'h');
  const auto static_content = bytes_of("static");
  Initramfs initramfs;
  initramfs.add_directory("minivm");
  initramfs.add_directory("minivm/modules", 0700);
  initramfs.add_file("minivm/config", 0600, bytes_of("configuration"));
  initramfs.add_file("minivm/empty", 0644, {});
  initramfs.add_static_file("minivm/init", 0755, static_content);
  initramfs.add_host_file("minivm/modules/000-a.ko", 0644, directory.write("a.ko", host_content));
  initramfs.add_symlink("init", "minivm/init");
  directory.write("archive", archive_of(initramfs));
  unpack(directory);

  CHECK(directory.read("out/minivm/config") == "configuration");
  CHECK(directory.read("out/minivm/empty").empty());
  CHECK(directory.read("out/minivm/init") == "static");
  CHECK(directory.read("out/minivm/modules/000-a.ko") == host_content);
  CHECK(directory.run("readlink -n out/init").output == "minivm/init");
  CHECK(listing(directory, "minivm").starts_with("drwxr-xr-x   2"));
  CHECK(listing(directory, "minivm/modules").starts_with("drwx------   2"));
  CHECK(listing(directory, "minivm/config").starts_with("-rw-------   1 0        0"));
  CHECK(listing(directory, "minivm/init").starts_with("-rwxr-xr-x   1"));
  CHECK(listing(directory, "minivm/init").find("Jan  1  1970") != std::string::npos);
}

TEST_CASE("device nodes carry their numbers", "[initramfs]") {
  const test::ScratchDirectory directory;
  Initramfs initramfs;
  initramfs.add_directory("dev");
  initramfs.add_device("dev/console", 0600, 5, 1);
  initramfs.add_device("dev/large", 0666, 4095, 1'048'575);
  directory.write("archive", archive_of(initramfs));
  CHECK(listing(directory, "dev/console").starts_with("crw-------   1 0        0          5,   1"));
  CHECK(listing(directory, "dev/large").find("4095, 1048575") != std::string::npos);
}

TEST_CASE("names and contents of every length keep the archive aligned", "[initramfs]") {
  const test::ScratchDirectory directory;
  Initramfs initramfs;
  for (unsigned name = 1; name <= 5; ++name) {
    for (unsigned size = 0; size <= 5; ++size) {
      initramfs.add_file(fmt::format("{}{}", std::string(name, 'n'), size), 0644, bytes_of(std::string(size, 's')));
    }
  }
  directory.write("archive", archive_of(initramfs));
  unpack(directory);
  for (unsigned name = 1; name <= 5; ++name) {
    for (unsigned size = 0; size <= 5; ++size) {
      CHECK(directory.read(fmt::format("out/{}{}", std::string(name, 'n'), size)) == std::string(size, 's'));
    }
  }
}

TEST_CASE("an archive without files is an end mark alone", "[initramfs]") {
  const Initramfs initramfs;
  CHECK(initramfs.size() == 124);
  const test::ScratchDirectory directory;
  directory.write("archive", archive_of(initramfs));
  unpack(directory);
}

TEST_CASE("the same content gives the same bytes", "[initramfs]") {
  const auto build = [] {
    Initramfs initramfs;
    initramfs.add_directory("a");
    initramfs.add_file("a/b", 0644, bytes_of("c"));
    return archive_of(initramfs);
  };
  CHECK(build() == build());
}

TEST_CASE("a user's archives follow, each at a multiple of four", "[initramfs]") {
  const test::ScratchDirectory directory;
  REQUIRE(directory.run("mkdir in && cd in && echo first > one && echo one | cpio -o -H newc --quiet > ../one.cpio")
              .status == 0);
  REQUIRE(directory.run("cd in && echo second > two && echo two | cpio -o -H newc --quiet | gzip > ../two.cpio.gz")
              .status == 0);
  // An odd length makes the next one need padding.
  REQUIRE(directory.run("printf x >> two.cpio.gz").status == 0);
  const std::string first = directory.read("one.cpio");
  const std::string second = directory.read("two.cpio.gz");

  Initramfs initramfs;
  initramfs.add_file("own", 0644, bytes_of("own"));
  const std::uint64_t own = initramfs.size();
  initramfs.append_archive(directory.path("two.cpio.gz"));
  initramfs.append_archive(directory.path("one.cpio"));
  const auto archive = archive_of(initramfs);
  const std::string text(reinterpret_cast<const char*>(archive.data()), archive.size());

  constexpr std::size_t unit = 4;
  const std::size_t begin = (own + unit - 1) / unit * unit;
  const std::size_t padded = (begin + second.size() + unit - 1) / unit * unit;
  CHECK(text.substr(own, begin - own) == std::string(begin - own, '\0'));
  CHECK(text.substr(begin, second.size()) == second);
  CHECK(text.substr(begin + second.size(), padded - begin - second.size()) ==
        std::string(padded - begin - second.size(), '\0'));
  CHECK(text.substr(padded) == first);

  // As the kernel does, cpio is started anew after each end mark.
  directory.write("archive", archive);
  const auto result =
      directory.run(fmt::format("mkdir out && cd out && (cpio -id --quiet < ../archive; "
                                "tail -c +{} ../archive | cpio -id --quiet)",
                                padded + 1));
  INFO(result.output);
  CHECK(directory.read("out/own") == "own");
  CHECK(directory.read("out/one") == "first\n");
}

TEST_CASE("a host file that changed length is named", "[initramfs]") {
  const test::ScratchDirectory directory;
  const std::string path = directory.write("shrinking", std::string(100, 'x'));
  Initramfs initramfs;
  const bool archive = GENERATE(false, true);
  if (archive) {
    initramfs.append_archive(path);
  } else {
    initramfs.add_host_file("file", 0644, path);
  }
  std::vector<std::byte> memory(initramfs.size());
  const auto size = GENERATE(0U, 99U, 101U);
  directory.write("shrinking", std::string(size, 'y'));
  CHECK_THROWS_WITH(initramfs.write(memory),
                    Catch::Contains(path) && Catch::Contains(fmt::format("from 100 to {} bytes", size)));
  directory.run("rm shrinking");
  CHECK_THROWS_AS(initramfs.write(memory), std::system_error);
}

TEST_CASE("a host file that cannot be read is named when it is added", "[initramfs]") {
  const test::ScratchDirectory directory;
  Initramfs initramfs;
  const std::string path = directory.path("absent");
  CHECK_THROWS_AS(initramfs.add_host_file("file", 0644, path), std::system_error);
  CHECK_THROWS_WITH(initramfs.append_archive(path), Catch::Contains(path));
  CHECK_THROWS_WITH(initramfs.add_host_file("file", 0644, directory.path()), Catch::Contains("not a regular file"));
  CHECK(initramfs.size() == Initramfs().size());
}

TEST_CASE("paths that leave the root or are not plain are refused", "[initramfs]") {
  Initramfs initramfs;
  for (const std::string_view path :
       {"", "/", "/init", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "./a", "TRAILER!!!"}) {
    INFO(path);
    CHECK_THROWS_AS(initramfs.add_file(path, 0644, {}), std::runtime_error);
  }
  CHECK_THROWS_AS(initramfs.add_directory(std::string_view("a\0b", 3)), std::runtime_error);
  CHECK_THROWS_WITH(initramfs.add_directory(std::string(4096, 'a')), Catch::Contains("4096 bytes, more than 4095"));
  CHECK_NOTHROW(initramfs.add_directory("...a"));
}

TEST_CASE("room of the wrong size is refused", "[initramfs]") {
  Initramfs initramfs;
  initramfs.add_file("a", 0644, bytes_of("b"));
  std::vector<std::byte> memory(initramfs.size() + 1);
  CHECK_THROWS_AS(initramfs.write(memory), std::logic_error);
  CHECK_THROWS_AS(initramfs.write(std::span(memory).first(initramfs.size() - 1)), std::logic_error);
}

}  // namespace minivm

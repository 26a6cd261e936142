#include "devices/virtio/disk_image.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <system_error>

#include "tests/temporary_file.h"

using namespace minivm;
using Catch::Matchers::EndsWith;
using Catch::Matchers::StartsWith;
using minivm::test::TemporaryFile;
using minivm::virtio::open_image;

namespace {

// The message with which `path` is refused; empty when it is not.
std::string refusal(const std::string& path, bool read_only = false) {
  try {
    open_image(path, read_only);
    return {};
  } catch (const std::exception& error) {
    CHECK_THAT(error.what(), StartsWith("disk " + path + ": "));
    return std::string(error.what()).substr(("disk " + path + ": ").size());
  }
}

}  // namespace

TEST_CASE("a raw image opens with its size") {
  const TemporaryFile file(4096);
  const bool read_only = GENERATE(false, true);
  const auto image = open_image(file.path(), read_only);
  CHECK(image.path == file.path());
  CHECK(image.size == 4096);
  CHECK(image.read_only == read_only);
  const int access = ::fcntl(image.file.get(), F_GETFL) & O_ACCMODE;
  CHECK(access == (read_only ? O_RDONLY : O_RDWR));
  CHECK((::fcntl(image.file.get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("paths that are no disk are refused by name and reason") {
  CHECK(refusal("/nonexistent/disk.img") == "No such file or directory");
  CHECK(refusal("/tmp") == "is a directory");
  CHECK(refusal("/tmp", true) == "is a directory");
  CHECK(refusal("/dev/null") == "is neither a regular file nor a block device");
  CHECK(refusal(TemporaryFile().path()) == "is empty");
  CHECK(refusal(TemporaryFile(513).path()) == "size 513 is not a multiple of 512");
  CHECK(refusal(TemporaryFile(511).path()) == "size 511 is not a multiple of 512");
}

TEST_CASE("a FIFO is refused, not waited for") {
  const TemporaryFile name;
  const std::string path = name.path() + ".fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  CHECK(refusal(path, true) == "is neither a regular file nor a block device");
  CHECK(refusal(path) == "is neither a regular file nor a block device");
  ::unlink(path.c_str());
}

TEST_CASE("a file that may not be written opens read-only alone") {
  const TemporaryFile file(512);
  REQUIRE(::chmod(file.path().c_str(), 0400) == 0);
  if (::geteuid() != 0) CHECK(refusal(file.path()) == "Permission denied");
  CHECK(refusal(file.path(), true).empty());
}

TEST_CASE("one writer or many readers hold an image, and it is free again when they are gone") {
  const TemporaryFile file(512);
  {
    const auto writer = open_image(file.path(), false);
    CHECK(refusal(file.path()) == "locked by another VM");
    CHECK(refusal(file.path(), true) == "locked by another VM");
  }
  {
    const auto reader = open_image(file.path(), true);
    CHECK(refusal(file.path(), true).empty());
    CHECK(refusal(file.path()) == "locked by another VM");
  }
  CHECK(refusal(file.path()).empty());
}

TEST_CASE("other formats are refused by their names, whatever their size") {
  struct Example {
    std::uint64_t offset;
    std::string magic;
    std::string name;
  };
  const auto example = GENERATE(values<Example>({{0, "QFI\xFB", "qcow2 image"},
                                                 {0, "KDMV", "VMDK image"},
                                                 {0, "# Disk DescriptorFile", "VMDK image"},
                                                 {0, "vhdxfile", "VHDX image"},
                                                 {0, "conectix", "VHD image"},
                                                 {0x40, "\x7F\x10\xDA\xBE", "VDI image"},
                                                 {0, "\x1F\x8B\x08", "gzip file"},
                                                 {0, "\x28\xB5\x2F\xFD", "zstd file"},
                                                 {0, std::string("\xFD\x37zXZ\0", 6), "xz file"},
                                                 {0, "BZh9", "bzip2 file"},
                                                 {257, "ustar", "tar archive"}}));
  for (const std::uint64_t size : {std::uint64_t{1024}, std::uint64_t{1001}}) {
    const TemporaryFile file(size);
    file.write(example.offset, example.magic);
    CHECK_THAT(refusal(file.path(), true), StartsWith("is a " + example.name + "; minivm takes raw images: "));
  }
}

TEST_CASE("a qcow2 image's refusal tells how to convert it") {
  const TemporaryFile file(1024);
  file.write(0, "QFI\xFB");
  CHECK_THAT(refusal(file.path()), EndsWith("qemu-img convert -O raw"));
}

TEST_CASE("an ISO 9660 image is as raw as any") {
  const TemporaryFile file(64 << 10);
  file.write(0x8001, "CD001");
  CHECK(refusal(file.path(), true).empty());
}

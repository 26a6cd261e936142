#include <sys/mman.h>
#include <sys/stat.h>

#include <array>
#include <catch2/catch.hpp>
#include <vector>

#include "devices/virtio/blk.h"
#include "tests/blk_fixture.h"

using namespace minivm;
using namespace minivm::virtio;
using blk::Range;

namespace {

struct Fixture : test::BlkFixture {
  std::byte release(std::uint32_t type, const std::vector<Range>& ranges) {
    driver.readable(test::BlkHeader{type, 0, 0});
    if (!ranges.empty()) driver.readable(std::as_bytes(std::span(ranges)));
    driver.writable(1).offer();
    const auto used = serve();
    CHECK(used.written == 1);
    return used.bytes.back();
  }
  std::byte discard(const std::vector<Range>& ranges) { return release(blk::type_discard, ranges); }
  std::byte write_zeroes(const std::vector<Range>& ranges) { return release(blk::type_write_zeroes, ranges); }

  // Every sector full of its number.
  void fill() const {
    for (std::uint64_t sector = 0; sector < sectors; ++sector) file.write(sector * 512, content(sector));
  }
  static std::string content(std::uint64_t sector) { return std::string(512, static_cast<char>('A' + sector)); }
  bool zero(std::uint64_t sector) const { return file.read(sector * 512, 512) == std::string(512, '\0'); }
  bool kept(std::uint64_t sector) const { return file.read(sector * 512, 512) == content(sector); }
  std::int64_t blocks() const {
    struct stat info {};
    REQUIRE(::stat(file.path().c_str(), &info) == 0);
    return info.st_blocks;
  }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "a discard gives the host its space back, and the image keeps its size (rule 26)") {
  start();
  fill();
  const std::int64_t before = blocks();
  CHECK(discard({{8, 16, 0}, {40, 8, 0}}) == ok);
  CHECK(blocks() < before);
  CHECK(file.read(0, sectors * 512 + 1).size() == sectors * 512);
  for (std::uint64_t sector = 0; sector < sectors; ++sector) {
    const bool discarded = (sector >= 8 && sector < 24) || (sector >= 40 && sector < 48);
    CHECK((discarded ? zero(sector) : kept(sector)));
  }
  CHECK(discard({{0, 0, 0}}) == ok);
  CHECK(discard({{sectors, 0, 0}}) == ok);
  CHECK(kept(0));
}

TEST_CASE_METHOD(Fixture, "write zeroes reads back as zeros, with and without unmap, at any sector (rule 26)") {
  start(false, usual_features & ~GENERATE(std::uint64_t{0}, blk::feature_flush));
  fill();
  const std::uint32_t flags = GENERATE(0U, Range::unmap_flag);
  CHECK(write_zeroes({{3, 18, flags}}) == ok);
  CHECK(kept(2));
  for (std::uint64_t sector = 3; sector < 21; ++sector) CHECK(zero(sector));
  CHECK(kept(21));
}

TEST_CASE_METHOD(Fixture, "what is wrong with one range keeps all of them from being touched (rule 26)") {
  start();
  fill();
  const std::uint64_t wraps = std::uint64_t{1} << 55;
  for (const Range& bad : {Range{sectors, 1, 0}, Range{sectors - 1, 2, 0}, Range{0, sectors + 1, 0},
                           Range{~std::uint64_t{0}, 1, 0}, Range{wraps, 8, 0}, Range{wraps + 1, 1, 0},
                           Range{0, 0xFFFF'FFFF, 0}, Range{0, Blk::max_discard_sectors + 1, 0}}) {
    CHECK(discard({{0, 8, 0}, bad}) == io_error);
    CHECK(write_zeroes({bad}) == io_error);
  }
  CHECK(discard({{0, 8, 0}, {8, 8, Range::unmap_flag}}) == unsupported);
  CHECK(discard({{0, 8, 2}}) == unsupported);
  CHECK(write_zeroes({{0, 8, 2}}) == unsupported);
  CHECK(write_zeroes({{0, 8, 0x8000'0001}}) == unsupported);
  for (std::uint64_t sector = 0; sector < sectors; ++sector) CHECK(kept(sector));
}

TEST_CASE_METHOD(Fixture, "no range, part of one, and more than was said are I/O errors (rule 26)") {
  start();
  fill();
  CHECK(discard({}) == io_error);
  CHECK(discard(std::vector<Range>(Blk::max_discard_ranges, Range{0, 1, 0})) == ok);
  CHECK(discard(std::vector<Range>(Blk::max_discard_ranges + 1, Range{1, 1, 0})) == io_error);
  CHECK(write_zeroes(std::vector<Range>(Blk::max_write_zeroes_ranges + 1, Range{1, 1, 0})) == io_error);
  const std::array<std::byte, 24> odd{};
  driver.readable(test::BlkHeader{blk::type_discard, 0, 0}).readable(odd).writable(1).offer();
  CHECK(status() == io_error);
  CHECK(kept(1));
}

TEST_CASE_METHOD(Fixture, "a read-only disk keeps all it has (rule 25)") {
  fill();
  start(true);
  CHECK(discard({{0, 8, 0}}) == io_error);
  CHECK(write_zeroes({{0, 8, 0}}) == io_error);
  CHECK(kept(0));
}

TEST_CASE_METHOD(Fixture, "what the driver did not accept is unsupported (rule 14)") {
  start(false, feature::version_1 | blk::feature_flush);
  fill();
  CHECK(discard({{0, 8, 0}}) == unsupported);
  CHECK(write_zeroes({{0, 8, 0}}) == unsupported);
  CHECK(kept(0));
}

TEST_CASE_METHOD(Fixture, "where the host knows no zeroing, zeros are written (rule 26)") {
  // tmpfs punches holes, but does not zero ranges.
  UniqueFd memory_file(::memfd_create("disk", MFD_CLOEXEC));
  REQUIRE(::ftruncate(memory_file.get(), sectors * 512) == 0);
  const UniqueFd same(::dup(memory_file.get()));
  for (std::uint64_t sector = 0; sector < sectors; ++sector) {
    REQUIRE(::pwrite(same.get(), content(sector).data(), 512, static_cast<off_t>(sector * 512)) == 512);
  }
  start(DiskImage{.path = "memory", .file = std::move(memory_file), .size = sectors * 512});
  CHECK(write_zeroes({{5, 7, 0}}) == ok);
  CHECK(read(4, 512) == content(4));
  CHECK(read(5, 7 * 512) == std::string(7 * 512, '\0'));
  CHECK(read(12, 512) == content(12));
}

#include <fcntl.h>

#include <array>
#include <catch2/catch.hpp>
#include <random>
#include <set>
#include <system_error>

#include "devices/virtio/blk.h"
#include "tests/blk_fixture.h"

using namespace minivm;
using namespace minivm::virtio;
using Header = minivm::test::BlkHeader;

namespace {

struct Fixture : test::BlkFixture {
  static constexpr std::uint64_t big = 2048;  // sectors

  // A disk past the page cache, false where the file system of the tests cannot.
  bool start_direct(std::uint64_t features = usual_features) {
    file.resize(big * 512);
    try {
      start(open_image(file.path(), false, HostCache::bypassed), features);
    } catch (const std::system_error& error) {
      WARN("no direct disk here: " << error.what());
      return false;
    }
    return true;
  }
  // Everything on the host's disk, and nothing of it in the page cache, as far as the file system knows such a thing.
  void cool_down() const {
    const UniqueFd other = open_file(file.path(), O_RDONLY);
    REQUIRE(::fsync(other.get()) == 0);
    REQUIRE(::posix_fadvise(other.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);
  }
  static std::string content(std::uint64_t sector, std::size_t size) {
    std::string text;
    for (; text.size() < size; ++sector) text += std::string(512, static_cast<char>('a' + sector % 26));
    return text.substr(0, size);
  }
  void offer_read(std::uint64_t sector, std::uint32_t size) {
    driver.readable(Header{blk::type_in, 0, sector}).writable(size).writable(1).offer();
  }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "what is not in the page cache comes through the ring, all at once, each where it belongs") {
  file.resize(big * 512);
  file.write(0, content(0, big * 512));
  cool_down();
  start();
  std::map<std::uint16_t, std::uint64_t> wanted;
  for (std::uint64_t i = 0; i < 32; ++i) {
    const std::uint64_t sector = i * 61 % (big - 16);
    driver.readable(Header{blk::type_in, 0, sector}).writable(1000).writable(7192).writable(1);
    wanted[driver.offer()] = sector;
  }
  kick();
  while (!wanted.empty()) {
    const auto used = await();
    const auto found = wanted.extract(used.head);
    REQUIRE_FALSE(found.empty());
    CHECK(used.written == 8193);
    CHECK(used.bytes.back() == ok);
    CHECK(text_of(used.bytes).substr(0, 8192) == content(found.mapped(), 8192));
  }
  CHECK(flush() == ok);  // through the ring, now that there is one
}

TEST_CASE_METHOD(Fixture, "a direct disk reads back what was written, aligned or not") {
  if (!start_direct()) return;
  std::mt19937 random(7);
  std::string expected(big * 512, '\0');
  for (int round = 0; round < 200; ++round) {
    const std::uint64_t sector = random() % (big - 64);
    const std::size_t size = 512 * (1 + random() % 64);
    const std::string data = content(random(), size);
    // Buffers at page boundaries, and others.
    const Gpa where = driver.allocate(size + 8192);
    const std::uint64_t page = (raw(where) + 4095) / 4096 * 4096;
    const Gpa buffer{round % 3 == 0 ? page + 16 : page};
    memory.write_bytes(buffer, bytes_of(data));
    driver.readable(Header{blk::type_out, 0, sector});
    driver.buffer_at(buffer, static_cast<std::uint32_t>(size), false).writable(1).offer();
    REQUIRE(status() == ok);
    expected.replace(sector * 512, size, data);
    const std::uint64_t from = random() % (big - 64);
    driver.readable(Header{blk::type_in, 0, from});
    driver.buffer_at(Gpa{round % 5 == 0 ? page + 512 : page}, 8192, true).writable(1).offer();
    const auto used = serve();
    REQUIRE(used.bytes.back() == ok);
    REQUIRE(text_of(used.bytes).substr(0, 8192) == expected.substr(from * 512, 8192));
  }
  CHECK(flush() == ok);
  CHECK(file.read(0, big * 512) == expected);
}

TEST_CASE_METHOD(Fixture, "a flush covers the writes that were answered before it, and waits for no others (rule 28)") {
  if (!start_direct(GENERATE(usual_features, feature::version_1))) return;
  const std::string page = content(3, 4096);
  const Gpa buffer{0x700000};
  memory.write_bytes(buffer, bytes_of(page));
  for (std::uint64_t i = 0; i < 16; ++i) {
    driver.readable(Header{blk::type_out, 0, i * 8}).buffer_at(buffer, 4096, false).writable(1).offer();
    driver.readable(Header{blk::type_flush, 0, 0}).writable(1).offer();
  }
  kick();
  for (int i = 0; i < 32; ++i) CHECK(await().bytes.back() == ok);
  for (std::uint64_t i = 0; i < 16; ++i) CHECK(file.read(i * 4096, 4096) == page);
}

TEST_CASE_METHOD(Fixture, "a reset ends what is under way before it returns, and the disk starts anew (rule 18)") {
  if (!start_direct()) return;
  file.write(0, content(0, big * 512));
  for (int round = 0; round < 20; ++round) {
    for (std::uint64_t i = 0; i < 60; ++i) {
      driver.readable(Header{blk::type_in, 0, i * 8})
          .buffer_at(Gpa{0x700000 + i * 4096}, 4096, true)
          .writable(1)
          .offer();
    }
    kick();
    on_loop([&] { device->reset(); });
    // The guest's memory belongs to the guest again: nothing may write there any more.
    for (std::uint64_t i = 0; i < 60; ++i) memory.write(Gpa{0x700000 + i * 4096}, std::uint64_t{0x1122'3344'5566'7788});
    on_loop([] {});
    for (std::uint64_t i = 0; i < 60; ++i) {
      CHECK(memory.read<std::uint64_t>(Gpa{0x700000 + i * 4096}) == 0x1122'3344'5566'7788);
    }
    stop();
    driver.restart();
    REQUIRE(start_direct());
    CHECK(read(8, 4096) == content(8, 4096));
  }
}

TEST_CASE_METHOD(Fixture, "a chain under way that comes again breaks the ring; what is under way ends all the same") {
  if (!start_direct()) return;
  driver.readable(Header{blk::type_in, 0, 0}).buffer_at(Gpa{0x700000}, 1 << 20, true).writable(1);
  const std::uint16_t head = driver.offer();
  driver.make_available(head);
  kick();
  // Either the first was answered before the second was looked at, or the ring is broken.
  on_loop([&] { CHECK((reset_needed || driver.used_idx() > 0)); });
  on_loop([&] { device->reset(); });
}

TEST_CASE_METHOD(Fixture, "an image that became shorter fails what the ring reads beyond its end") {
  if (!start_direct()) return;
  file.resize(4096);
  driver.readable(Header{blk::type_in, 0, 8}).buffer_at(Gpa{0x700000}, 4096, true).writable(1).offer();
  CHECK(status() == io_error);
  driver.readable(Header{blk::type_in, 0, 0}).buffer_at(Gpa{0x700000}, 8192, true).writable(1).offer();
  CHECK(status() == io_error);
  driver.readable(Header{blk::type_in, 0, 0}).buffer_at(Gpa{0x700000}, 4096, true).writable(1).offer();
  CHECK(status() == ok);
}

TEST_CASE_METHOD(Fixture, "one interrupt tells of all that one wake found done") {
  if (!start_direct()) return;
  for (std::uint64_t i = 0; i < 32; ++i) {
    driver.readable(Header{blk::type_in, 0, i * 8}).buffer_at(Gpa{0x700000 + i * 4096}, 4096, true).writable(1).offer();
  }
  kick();
  std::uint64_t told = 0;
  for (int i = 0; i < 32; ++i) {
    CHECK(await().bytes.back() == ok);
  }
  on_loop([&] { told = interrupts(); });
  CHECK(told >= 1);
  CHECK(told <= 32);
}

#include "devices/virtio/blk.h"

#include <sys/resource.h>

#include <array>
#include <catch2/catch.hpp>
#include <csignal>

#include "tests/blk_fixture.h"

using namespace minivm;
using namespace minivm::virtio;
using Fixture = minivm::test::BlkFixture;
using Header = minivm::test::BlkHeader;

TEST_CASE_METHOD(Fixture, "a read brings sectors from the image, and counts data and status (rule 9)") {
  start();
  file.write(3 * 512, "three");
  file.write(4 * 512, "four");
  driver.readable(Header{blk::type_in, 0, 3}).writable(1024).writable(1).offer();
  const auto used = serve();
  CHECK(used.written == 1025);
  CHECK(used.bytes.back() == ok);
  CHECK(text_of(used.bytes).substr(0, 5) == "three");
  CHECK(text_of(used.bytes).substr(512, 4) == "four");
}

TEST_CASE_METHOD(Fixture, "a write puts sectors into the image, and counts the status alone") {
  start();
  const std::string data(1024, 'w');
  driver.readable(Header{blk::type_out, 0, 62}).readable(bytes_of(data)).writable(1).offer();
  const auto used = serve();
  CHECK(used.written == 1);
  CHECK(used.bytes.back() == ok);
  CHECK(file.read(62 * 512, 1024) == data);
  CHECK(file.read(61 * 512, 512) == std::string(512, '\0'));
}

TEST_CASE_METHOD(Fixture, "the driver may cut a request anywhere, also within header and status (2.7.4, rule 27)") {
  start();
  file.write(512, std::string(512, 'r'));
  const Header header{blk::type_in, 0, 1};
  const auto parts = std::as_bytes(std::span(&header, 1));
  SECTION("header in three parts, data in two, the status behind data in one buffer") {
    driver.readable(parts.first(1)).readable(parts.subspan(1, 8)).readable(parts.subspan(9));
    driver.writable(100).writable(413).offer();
    const auto used = serve();
    CHECK(used.written == 513);
    CHECK(used.bytes.back() == ok);
    CHECK(text_of(used.bytes).substr(0, 512) == std::string(512, 'r'));
  }
  SECTION("header and data of a write in one buffer") {
    std::vector<std::byte> whole(16 + 512, std::byte{'x'});
    const Header write{blk::type_out, 0, 1};
    std::memcpy(whole.data(), &write, sizeof write);
    driver.readable(whole).writable(1).offer();
    CHECK(status() == ok);
    CHECK(file.read(512, 512) == std::string(512, 'x'));
  }
  SECTION("through an indirect table") {
    driver.readable(header);
    for (int i = 0; i < 128; ++i) driver.writable(4);
    driver.writable(1).offer_indirect();
    const auto used = serve();
    CHECK(used.written == 513);
    CHECK(text_of(used.bytes).substr(0, 512) == std::string(512, 'r'));
  }
}

TEST_CASE_METHOD(Fixture, "requests beyond the end of the disk fail, at any size of the sector number") {
  start();
  const std::string data(1024, 'w');
  const auto outcome = [&](std::uint32_t type, std::uint64_t sector) {
    driver.readable(Header{type, 0, sector});
    if (type == blk::type_out) driver.readable(bytes_of(data));
    if (type == blk::type_in) driver.writable(1024);
    driver.writable(1).offer();
    return status();
  };
  for (const std::uint32_t type : {blk::type_in, blk::type_out}) {
    CHECK(outcome(type, sectors - 2) == ok);
    CHECK(outcome(type, sectors - 1) == io_error);
    CHECK(outcome(type, sectors) == io_error);
    CHECK(outcome(type, sectors + 1) == io_error);
    // Times 512 these wrap around to small numbers.
    CHECK(outcome(type, std::uint64_t{1} << 55) == io_error);
    CHECK(outcome(type, (std::uint64_t{1} << 55) + 1) == io_error);
    CHECK(outcome(type, ~std::uint64_t{0}) == io_error);
    CHECK(outcome(type, ~std::uint64_t{0} - 1) == io_error);
  }
  CHECK(file.read(0, sectors * 512 + 1).size() == sectors * 512);
}

TEST_CASE_METHOD(Fixture, "data that is no multiple of a sector fails and moves nothing (rule 27)") {
  start();
  driver.readable(Header{blk::type_out, 0, 0}).readable(bytes_of(std::string(511, 'w'))).writable(1).offer();
  CHECK(status() == io_error);
  CHECK(file.read(0, 4) == std::string(4, '\0'));
  driver.readable(Header{blk::type_in, 0, 0}).writable(513).writable(1).offer();
  const auto used = serve();
  CHECK(used.bytes.back() == io_error);
  CHECK(used.written == 1);
}

TEST_CASE_METHOD(Fixture, "a request without data is done at once") {
  start();
  driver.readable(Header{blk::type_in, 0, 0}).writable(1).offer();
  CHECK(status() == ok);
  driver.readable(Header{blk::type_out, 0, 0}).writable(1).offer();
  CHECK(status() == ok);
}

TEST_CASE_METHOD(Fixture, "a request with a short header fails; one without room for a status goes back (rule 12)") {
  start();
  driver.readable(std::uint64_t{0}).writable(512).writable(1).offer();
  CHECK(status() == io_error);
  driver.writable(1).offer();
  CHECK(status() == io_error);
  driver.readable(Header{blk::type_flush, 0, 0}).offer();
  CHECK(serve().written == 0);
  CHECK_FALSE(reset_needed);
}

TEST_CASE_METHOD(Fixture, "unknown requests are unsupported") {
  start();
  for (const std::uint32_t type : {2U, 3U, 10U, 12U, 14U, 0x8000'0000U, 0xFFFF'FFFFU}) {
    driver.readable(Header{type, 0, 0}).readable(std::array<std::byte, 16>{}).writable(1).offer();
    const auto used = serve();
    CHECK(used.bytes.back() == unsupported);
    CHECK(used.written == 1);
  }
}

TEST_CASE_METHOD(Fixture, "a flush succeeds, also on a read-only disk (rule 25)") {
  start(GENERATE(false, true));
  driver.readable(Header{blk::type_flush, 0, 0}).writable(1).offer();
  CHECK(status() == ok);
}

TEST_CASE_METHOD(Fixture, "a read-only disk fails writes whether or not the driver acknowledged RO (rule 25)") {
  start(true, feature::version_1 | GENERATE(std::uint64_t{0}, blk::feature_ro));
  driver.readable(Header{blk::type_out, 0, 0}).readable(bytes_of(std::string(512, 'w'))).writable(1).offer();
  CHECK(status() == io_error);
  CHECK(file.read(0, 4) == std::string(4, '\0'));
  driver.readable(Header{blk::type_in, 0, 0}).writable(512).writable(1).offer();
  CHECK(status() == ok);
}

TEST_CASE_METHOD(Fixture, "a driver without FLUSH writes through (rule 23)") {
  start(false, feature::version_1);
  driver.readable(Header{blk::type_out, 0, 5}).readable(bytes_of(std::string(512, 't'))).writable(1).offer();
  CHECK(status() == ok);
  CHECK(file.read(5 * 512, 512) == std::string(512, 't'));
}

TEST_CASE_METHOD(Fixture, "GET_ID gives 20 bytes, not ended by a NUL, cut to the room there is (rule 27)") {
  start();
  const std::uint32_t room = GENERATE(20U, 512U, 5U, 0U);
  driver.readable(Header{blk::type_get_id, 0, 0});
  if (room != 0) driver.writable(room);
  driver.writable(1).offer();
  const auto used = serve();
  const std::string id = "minivm-root-disk-012";
  CHECK(used.bytes.back() == ok);
  CHECK(used.written == std::min(room, 20U) + 1);
  CHECK(text_of(used.bytes).substr(0, std::min(room, 20U)) == id.substr(0, room));
}

TEST_CASE_METHOD(Fixture, "an image that became shorter fails reads beyond its new end, and the VM lives on") {
  start();
  file.resize(512);
  driver.readable(Header{blk::type_in, 0, 0}).writable(1024).writable(1).offer();
  CHECK(status() == io_error);
  driver.readable(Header{blk::type_in, 0, 0}).writable(512).writable(1).offer();
  CHECK(status() == ok);
}

TEST_CASE_METHOD(Fixture, "a write that the host cuts short goes on and then tells of the host's error (rule 27)") {
  start();
  // The limit lets the first sector through and refuses the second: a short write, then EFBIG.
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  const rlimit limit{.rlim_cur = 512, .rlim_max = old_limit.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  driver.readable(Header{blk::type_out, 0, 0}).readable(bytes_of(std::string(1024, 'w'))).writable(1).offer();
  const std::byte result = status();
  ::setrlimit(RLIMIT_FSIZE, &old_limit);
  std::signal(SIGXFSZ, old_handler);
  CHECK(result == io_error);
  CHECK(file.read(0, 512) == std::string(512, 'w'));
  CHECK(file.read(512, 4) == std::string(4, '\0'));
}

TEST_CASE_METHOD(Fixture, "a full host disk is an I/O error to the guest") {
  if (::access("/dev/full", W_OK) != 0) return;
  DiskImage full{.path = "/dev/full", .file = open_file("/dev/full", O_RDWR), .size = 4096, .read_only = false};
  start(std::move(full), feature::version_1);
  driver.readable(Header{blk::type_out, 0, 0}).readable(bytes_of(std::string(512, 'w'))).writable(1).offer();
  CHECK(status() == io_error);
}

TEST_CASE_METHOD(Fixture, "one wake serves a bounded batch with one interrupt, and asks to be called again (rule 11)") {
  start();
  for (int i = 0; i < RequestQueues::max_batch + 1; ++i) {
    driver.readable(Header{blk::type_flush, 0, 0}).writable(1).offer();
  }
  kick();
  CHECK(driver.used_idx() == RequestQueues::max_batch);
  CHECK(calls_again == 1);
  CHECK(interrupts() == 1);
  while (driver.take_used()) continue;
  kick();
  CHECK(driver.used_idx() == RequestQueues::max_batch + 1);
  CHECK(calls_again == 1);
  CHECK(interrupts() == 1);
  kick();
  CHECK(interrupts() == 0);
}

TEST_CASE_METHOD(Fixture, "a broken ring asks for a reset, once, and the device is deaf until then") {
  start();
  driver.set_available_idx(300);
  kick();
  CHECK(reset_needed);
  reset_needed = false;
  driver.set_available_idx(1);
  kick();
  CHECK_FALSE(reset_needed);
  CHECK(driver.used_idx() == 0);
  on_loop([&] { device->reset(); });
  kick();
  CHECK(driver.used_idx() == 0);
}

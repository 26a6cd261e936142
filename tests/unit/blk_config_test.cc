#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>

#include "devices/virtio/blk.h"
#include "tests/blk_fixture.h"

using namespace minivm;
using namespace minivm::virtio;
using Fixture = minivm::test::BlkFixture;

namespace {

constexpr std::uint64_t writeback_offset = offsetof(blk::Config, writeback);
constexpr std::uint64_t base = feature::version_1;

void set_writeback(Blk& device, std::uint8_t value) {
  device.write_config(writeback_offset, std::as_bytes(std::span(&value, 1)));
}

}  // namespace

TEST_CASE_METHOD(Fixture, "the configuration space tells capacity, blocks and limits, and nothing beyond (rule 20)") {
  start();
  struct stat info {};
  REQUIRE(::stat(file.path().c_str(), &info) == 0);
  const blk::Config told = config();
  CHECK(told.capacity == sectors);
  CHECK(told.blk_size == 512);
  CHECK(512U << told.physical_block_exp == info.st_blksize);
  CHECK(told.min_io_size == info.st_blksize / 512);
  CHECK(told.writeback == 1);
  CHECK(told.num_queues == 1);
  CHECK(told.max_discard_sectors == Blk::max_discard_sectors);
  CHECK(told.max_discard_seg == Blk::max_discard_ranges);
  CHECK(told.discard_sector_alignment == info.st_blksize / 512);
  CHECK(told.max_write_zeroes_sectors == Blk::max_write_zeroes_sectors);
  CHECK(told.max_write_zeroes_seg == Blk::max_write_zeroes_ranges);
  CHECK(told.write_zeroes_may_unmap == 1);
  CHECK(config<std::uint64_t>(20) ==
        512U + (std::uint64_t{told.physical_block_exp} << 32) + (std::uint64_t{told.min_io_size} << 48));
  CHECK(config<std::uint64_t>(sizeof(blk::Config)) == 0);
  CHECK(config<std::uint64_t>(0xFFFF'FFFF'FFFF'FFFF) == 0);
  CHECK(device->type() == 2);
}

TEST_CASE_METHOD(Fixture, "as many segments as the longest chain has, less header and status (rule 7)") {
  start(false, base);
  CHECK(config().seg_max == Blk::queue_size - 2);  // the queue holds no longer chain
  stop();
  start(false, base | feature::indirect_desc);
  const std::uint32_t segments = config().seg_max;
  CHECK(segments == DescriptorChain::max_buffers - 2);
  driver.readable(test::BlkHeader{blk::type_in, 0, 0});
  for (std::uint32_t i = 0; i < segments; ++i) driver.writable(i < segments - 2 ? 1 : 2);
  driver.writable(1).offer_indirect();
  CHECK(serve().written == 1024 + 1);
}

TEST_CASE_METHOD(Fixture, "a read-only disk offers RO, and nothing that changes it") {
  start();
  const std::uint64_t changing = blk::feature_discard | blk::feature_write_zeroes;
  CHECK((device->features() & (blk::feature_ro | changing)) == changing);
  stop();
  start(true);
  CHECK((device->features() & (blk::feature_ro | changing)) == blk::feature_ro);
}

TEST_CASE_METHOD(Fixture, "a disk of several queues says so, and serves each") {
  const auto queues = GENERATE(as<std::uint16_t>(), 1, 2, Blk::max_queues, 64);
  start(open_image(file.path(), false), usual_features, {.queues = queues, .limit = {}});
  const std::uint16_t expected = std::min(queues, Blk::max_queues);
  CHECK(config().num_queues == expected);
  CHECK(device->queue_sizes().size() == expected);
  CHECK(((device->features() & blk::feature_mq) != 0) == (expected > 1));
  if (expected < 2) return;
  on_loop([&] { device->reset(); });
  test::FakeDriver second(memory, Gpa{0x800000}, 16);
  on_loop([&] {
    Activation activation{.features = usual_features,
                          .interrupt = &interrupt,
                          .needs_reset = [this] { reset_needed = true; },
                          .call_again = [this](std::uint16_t) { ++calls_again; }};
    activation.queues.resize(expected);  // the driver enabled the second alone (rule 16)
    activation.queues[1].emplace(second.activate(usual_features));
    device->activate(std::move(activation));
  });
  second.readable(test::BlkHeader{blk::type_out, 0, 3}).readable(bytes_of(std::string(512, '2'))).writable(1).offer();
  kick(0);
  kick(expected);
  CHECK(second.used_idx() == 0);
  kick(1);
  CHECK(second.take_used()->bytes.back() == ok);
  CHECK(file.read(3 * 512, 512) == std::string(512, '2'));
}

TEST_CASE_METHOD(Fixture, "the driver may switch the cache off and on if it accepted CONFIG_WCE and FLUSH (rule 24)") {
  SECTION("both") {
    start(false, base | blk::feature_flush | blk::feature_config_wce);
    CHECK(config().writeback == 1);
    set_writeback(*device, 0);
    CHECK(config().writeback == 0);
    CHECK(write(1, std::string(512, 'a')) == ok);
    set_writeback(*device, 1);
    CHECK(config().writeback == 1);
    CHECK(write(2, std::string(512, 'b')) == ok);
    set_writeback(*device, 0);
    device->features_accepted(0);  // a reset
    CHECK(config().writeback == 1);
  }
  SECTION("CONFIG_WCE without FLUSH: the cache is off and stays off") {
    start(false, base | blk::feature_config_wce);
    CHECK(config().writeback == 0);
    set_writeback(*device, 1);
    CHECK(config().writeback == 0);
  }
  SECTION("FLUSH alone: the field is read-only") {
    start(false, base | blk::feature_flush);
    set_writeback(*device, 0);
    CHECK(config().writeback == 1);
  }
}

TEST_CASE_METHOD(Fixture, "no other field can be written, nor this one by a wider access (rule 20)") {
  start(false, base | blk::feature_flush | blk::feature_config_wce);
  const blk::Config before = config();
  const std::array<std::byte, 8> zeros{};
  for (std::uint64_t offset = 0; offset < sizeof(blk::Config) + 8; ++offset) {
    if (offset != writeback_offset) device->write_config(offset, std::span(zeros).first(1));
    device->write_config(offset, std::span(zeros).first(2));
    device->write_config(offset, zeros);
  }
  device->write_config(0xFFFF'FFFF'FFFF'FFFF, zeros);
  const blk::Config after = config();
  CHECK(std::memcmp(&before, &after, sizeof before) == 0);
}

TEST_CASE_METHOD(Fixture, "the driver hears of a disk's new size, and can use it (rule 20)") {
  start(open_image(file.path(), false), usual_features, {.size_check = std::chrono::milliseconds(5)});
  const std::uint32_t generation = device->config_generation();
  interrupt.clear();
  CHECK_FALSE(read(sectors, 512));
  const auto await_capacity = [&](std::uint64_t count) {
    while (config().capacity != count) std::this_thread::yield();
    on_loop([] {});
  };
  file.resize(2 * sectors * 512);
  await_capacity(2 * sectors);
  CHECK((interrupt.status() & Interrupt::configuration_change) != 0);
  CHECK(device->config_generation() != generation);
  CHECK(read(2 * sectors - 1, 512) == std::string(512, '\0'));
  CHECK(write(2 * sectors - 1, std::string(512, 'n')) == ok);
  CHECK_FALSE(read(2 * sectors, 512));
  file.resize(8 * 512);
  await_capacity(8);
  CHECK_FALSE(read(8, 512));
  CHECK(read(7, 512));
}

TEST_CASE_METHOD(Fixture, "a disk that grew while there was no driver has its new size once there is one") {
  start();
  on_loop([&] { device->reset(); });
  file.resize(2 * sectors * 512);
  driver.restart();
  on_loop([&] {
    Activation activation{
        .features = usual_features, .interrupt = &interrupt, .needs_reset = [] {}, .call_again = [](std::uint16_t) {}};
    activation.queues.emplace_back(driver.activate(usual_features));
    device->activate(std::move(activation));
  });
  CHECK(config().capacity == 2 * sectors);
  CHECK(read(2 * sectors - 1, 512));
}

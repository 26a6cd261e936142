#include "devices/virtio/balloon.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <string_view>
#include <vector>

#include "tests/fake_driver.h"
#include "tests/own_mapping.h"
#include "tests/temporary_file.h"

using namespace minivm;
using namespace minivm::virtio;
using minivm::test::FakeDriver;

namespace {

constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t page = balloon::page_size;
constexpr Gpa victim{8 * mib};  // pages that nothing else uses
constexpr std::uint64_t all_features = feature::version_1 | balloon::feature_stats_vq | balloon::feature_page_reporting;

constexpr std::uint64_t huge_page = GuestMemory::huge_page_size;

// A balloon whose device runs on the test's thread.
struct Fixture {
  GuestMemory memory{16 * mib + (Balloon::max_split + 1) * huge_page};
  InterruptLine interrupt;
  Balloon device{memory};
  std::vector<std::unique_ptr<FakeDriver>> drivers;
  int resets_wanted = 0;
  int calls_again = 0;

  // Enables the first `queues` queues.
  void start(std::uint64_t features = all_features, std::size_t queues = 4) {
    Activation activation{.features = features,
                          .interrupt = &interrupt,
                          .needs_reset = [this] { ++resets_wanted; },
                          .call_again = [this](std::uint16_t) { ++calls_again; }};
    activation.queues.resize(device.queue_sizes().size());
    for (std::size_t i = 0; i < queues; ++i) {
      drivers.push_back(std::make_unique<FakeDriver>(memory, Gpa{mib * (1 + i)}, device.queue_sizes()[i], mib));
      activation.queues[i] = drivers[i]->activate(features);
    }
    device.activate(std::move(activation));
  }
  void fill(Gpa gpa, std::uint64_t size) const { std::ranges::fill(memory.slice(gpa, size).value(), std::byte{0xAB}); }
  bool filled(Gpa gpa, std::uint64_t size) const {
    return std::ranges::all_of(memory.slice(gpa, size).value(), [](std::byte byte) { return byte == std::byte{0xAB}; });
  }
  /// Whether the host has a page for this one.
  bool resident(Gpa gpa) const {
    unsigned char in_core = 0;
    REQUIRE(::mincore(memory.slice(gpa, page).value().data(), page, &in_core) == 0);
    return (in_core & 1) != 0;
  }
  /// Notifies the device. What it did to pages is to be seen before `taken`, which reads them.
  void serve(std::uint16_t queue) { device.on_notify(queue); }
  /// The bytes that the device says it wrote into the chain that it returned.
  std::uint32_t taken(std::uint16_t queue) { return drivers[queue]->take_used().value().written; }
  void inflate(const std::vector<std::uint32_t>& pages) {
    drivers[balloon::inflate_queue]->readable(std::as_bytes(std::span(pages))).offer();
    serve(balloon::inflate_queue);
    CHECK(taken(balloon::inflate_queue) == 0);
  }
  std::uint32_t config(std::uint64_t offset) const {
    std::uint32_t value = 0;
    device.read_config(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  void write_config(std::uint64_t offset, std::uint32_t value) {
    device.write_config(offset, std::as_bytes(std::span(&value, 1)));
  }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "reported pages go back to the host, and then the report to the guest (rule 44)") {
  // Linux counts the queues whose features were negotiated; the specification numbers them all.
  std::uint16_t queue = 0;
  SECTION("counted, with statistics") {
    start(all_features, 4);
    queue = 3;
  }
  SECTION("counted, without") {
    start(feature::version_1 | balloon::feature_page_reporting, 3);
    queue = 2;
  }
  SECTION("numbered") {
    start(all_features, 5);
    queue = 4;
  }
  fill(victim, 6 * page);
  drivers[queue]->buffer_at(victim + page, static_cast<std::uint32_t>(2 * page), true);
  drivers[queue]->buffer_at(victim + 4 * page, static_cast<std::uint32_t>(page), true).offer();
  serve(queue);
  CHECK(interrupt.status() == Interrupt::used_buffer);
  CHECK(filled(victim, page));
  CHECK_FALSE(resident(victim + page));
  CHECK_FALSE(resident(victim + 2 * page));
  CHECK(filled(victim + 3 * page, page));
  CHECK_FALSE(resident(victim + 4 * page));
  CHECK(taken(queue) == 0);
  CHECK(memory.read<std::uint64_t>(victim + page) == std::uint64_t{0});
}

TEST_CASE_METHOD(Fixture, "the host does not make a huge page again of one that was reported in part") {
  start();
  const auto reported = [&](Gpa gpa, std::uint64_t size) {
    fill(gpa, size);
    drivers[3]->buffer_at(gpa, static_cast<std::uint32_t>(size), true).offer();
    serve(3);
    const bool gone = !resident(gpa) && !resident(gpa + (size - page));
    CHECK(taken(3) == 0);
    return gone;
  };
  const auto small_pages_only = [&](Gpa gpa) {
    return test::own_mapping(memory.slice(gpa, page).value().data()).value().small_pages_only;
  };
  CHECK(reported(victim, huge_page));
  CHECK(reported(victim + 2 * huge_page, page));
  CHECK(reported(victim + 2 * huge_page + 8 * page, page));
  CHECK_FALSE(small_pages_only(victim));
  CHECK(small_pages_only(victim + 2 * huge_page));
  CHECK_FALSE(small_pages_only(victim + 3 * huge_page));

  SECTION("up to so many; of others what is reported in parts stays") {
    const Gpa more{16 * mib};
    for (std::size_t i = 1; i < Balloon::max_split; ++i) CHECK(reported(more + (i - 1) * huge_page, page));
    const Gpa last = more + (Balloon::max_split - 1) * huge_page;
    CHECK_FALSE(reported(last, page));
    CHECK_FALSE(small_pages_only(last));
    CHECK(filled(last, page));
    CHECK(reported(last, huge_page));
    CHECK(reported(victim + 2 * huge_page, 2 * page));
  }
}

TEST_CASE_METHOD(Fixture, "a page of a mapped kernel does not become what the kernel's file has") {
  const test::TemporaryFile kernel;
  kernel.write(0, std::string(4 * page, 'k'));
  const UniqueFd file(::open(kernel.path().c_str(), O_RDONLY | O_CLOEXEC));
  memory.map_private(victim, file.get(), 0, 4 * page);
  start();
  const auto bytes = memory.slice(victim, 6 * page).value();
  std::ranges::fill(bytes, std::byte{});  // as a guest does that zeroes what it frees
  drivers[3]->buffer_at(victim, static_cast<std::uint32_t>(4 * page), true);
  drivers[3]->buffer_at(victim + 4 * page, static_cast<std::uint32_t>(2 * page), true).offer();
  serve(3);
  CHECK_FALSE(resident(victim + 4 * page));
  CHECK(std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{}; }));
  std::ranges::fill(bytes, std::byte{});
  inflate({static_cast<std::uint32_t>(raw(victim) / page)});
  CHECK(bytes[0] == std::byte{});
}

TEST_CASE_METHOD(Fixture, "of a reported range only whole pages are taken") {
  start();
  fill(victim, 4 * page);
  drivers[3]->buffer_at(victim + 1, static_cast<std::uint32_t>(2 * page), true).offer();
  serve(3);
  CHECK(filled(victim, page));
  CHECK_FALSE(resident(victim + page));
  CHECK(filled(victim + 2 * page, page));
  drivers[3]->buffer_at(victim + 2 * page + 1, 100, true).offer();
  serve(3);
  CHECK(filled(victim + 2 * page, page));
  drivers[3]->buffer_at(victim + 2 * page, static_cast<std::uint32_t>(page), false).offer();  // not device-writable
  serve(3);
  CHECK(filled(victim + 2 * page, page));
}

TEST_CASE_METHOD(Fixture, "a report of pages that are not RAM goes back as it came") {
  start();
  fill(victim, page);
  drivers[3]->buffer_at(victim, static_cast<std::uint32_t>(page), true);
  drivers[3]->buffer_at(Gpa{memory.size()}, static_cast<std::uint32_t>(page), true).offer();
  serve(3);
  CHECK(taken(3) == 0);
  CHECK(filled(victim, page));
  CHECK(resets_wanted == 0);
}

TEST_CASE_METHOD(Fixture, "pages that are to keep a pattern are not taken") {
  start(all_features | balloon::feature_page_poison);
  write_config(offsetof(balloon::Config, poison_val), 0xAAAA'AAAA);
  fill(victim, page);
  drivers[3]->buffer_at(victim, static_cast<std::uint32_t>(page), true).offer();
  serve(3);
  CHECK(filled(victim, page));
  write_config(offsetof(balloon::Config, poison_val), 0);
  drivers[3]->buffer_at(victim, static_cast<std::uint32_t>(page), true).offer();
  serve(3);
  CHECK_FALSE(resident(victim));
}

TEST_CASE_METHOD(Fixture, "the balloon takes the pages that it is given, in any order") {
  start();
  fill(victim, 5 * page);
  const auto first = static_cast<std::uint32_t>(raw(victim) / page);
  inflate({first + 3, first, first + 1, first + 1});
  CHECK_FALSE(resident(victim));
  CHECK_FALSE(resident(victim + page));
  CHECK(filled(victim + 2 * page, page));
  CHECK_FALSE(resident(victim + 3 * page));
  CHECK(filled(victim + 4 * page, page));
  drivers[balloon::deflate_queue]->readable(first).offer();
  serve(balloon::deflate_queue);
  CHECK(taken(balloon::deflate_queue) == 0);
}

TEST_CASE_METHOD(Fixture, "page numbers that are not RAM, too many, or cut short do no harm") {
  start();
  fill(victim, 2 * page);
  const auto first = static_cast<std::uint32_t>(raw(victim) / page);
  inflate({0xFFFF'FFFF, 0xFFFF'FFFE, 4096, 0x10'0000});
  CHECK(filled(victim, 2 * page));
  // What is beyond the limit is not looked at.
  std::vector<std::uint32_t> many(Balloon::max_pages, 0xFFFF'FFFF);
  many.push_back(first);
  inflate(many);
  CHECK(filled(victim, 2 * page));
  drivers[0]->readable(std::array{std::byte{1}, std::byte{2}, std::byte{3}}).offer();
  serve(0);
  CHECK(taken(0) == 0);
  drivers[0]->writable(64).offer();
  serve(0);
  CHECK(taken(0) == 0);
}

TEST_CASE_METHOD(Fixture, "statistics come when they are asked for, and once") {
  start();
  std::vector<MemoryStatistics> heard;
  const auto ask = [&] {
    return device.request_statistics([&](const MemoryStatistics& statistics) { heard.push_back(statistics); });
  };
  CHECK_FALSE(ask());  // the driver has no buffer there yet
  drivers[2]->readable(balloon::Statistic{4, 1}).offer();
  device.on_notify(2);
  CHECK_FALSE(drivers[2]->take_used());  // held until it is wanted
  CHECK(heard.empty());
  REQUIRE(ask());
  CHECK_FALSE(ask());
  CHECK(drivers[2]->take_used());
  CHECK(interrupt.status() == Interrupt::used_buffer);
  const std::array answers{balloon::Statistic{4, 1000}, balloon::Statistic{5, 2000}, balloon::Statistic{0xFFFF, 3}};
  drivers[2]->readable(answers).offer();
  device.on_notify(2);
  REQUIRE(heard.size() == 1);
  CHECK(heard[0][static_cast<std::size_t>(balloon::Tag::free_memory)] == 1000);
  CHECK(heard[0][static_cast<std::size_t>(balloon::Tag::total_memory)] == 2000);
  CHECK_FALSE(heard[0][static_cast<std::size_t>(balloon::Tag::swap_in)]);
  CHECK(ask());
}

TEST_CASE_METHOD(Fixture, "a statistics buffer of any length is read no further than it goes, or than it makes sense") {
  start();
  std::vector<MemoryStatistics> heard;
  drivers[2]->readable(balloon::Statistic{}).offer();
  device.on_notify(2);
  const auto answer = [&](std::span<const std::byte> bytes) {
    REQUIRE(device.request_statistics([&](const MemoryStatistics& statistics) { heard.push_back(statistics); }));
    drivers[2]->take_used();
    drivers[2]->readable(bytes).offer();
    device.on_notify(2);
    return heard.back();
  };
  CHECK_FALSE(answer(std::vector<std::byte>(9))[0]);  // no whole entry
  CHECK(answer(std::vector<std::byte>(19))[0] == 0);
  CHECK(answer(std::vector<std::byte>(512 << 10))[0] == 0);
  CHECK_FALSE(answer({})[0]);
  CHECK(heard.size() == 4);
}

TEST_CASE_METHOD(Fixture, "a second statistics buffer sends the first one back") {
  start();
  for (int i = 0; i < 3; ++i) drivers[2]->readable(balloon::Statistic{}).offer();
  device.on_notify(2);
  CHECK(drivers[2]->take_used());
  CHECK(drivers[2]->take_used());
  CHECK_FALSE(drivers[2]->take_used());
}

TEST_CASE_METHOD(Fixture, "a broken ring asks for a reset, after which everything works again") {
  start();
  const auto queue = GENERATE(std::uint16_t{0}, std::uint16_t{1}, std::uint16_t{2}, std::uint16_t{3});
  drivers[queue]->set_available_idx(999);
  device.on_notify(queue);
  CHECK(resets_wanted == 1);
  device.on_notify(queue);
  CHECK_FALSE(device.request_statistics([](const MemoryStatistics&) {}));
  device.reset();
  device.on_notify(queue);
  drivers.clear();
  start();
  fill(victim, page);
  drivers[3]->buffer_at(victim, static_cast<std::uint32_t>(page), true).offer();
  serve(3);
  CHECK_FALSE(resident(victim));
}

TEST_CASE("the guest is asked for what the machine wants, also after a reset, and may give anything") {
  const GuestMemory memory(16 << 20);
  Balloon device(memory, 5 * balloon::page_size + 1);
  const auto wanted = [&] {
    std::uint32_t pages = 0;
    device.read_config(offsetof(balloon::Config, num_pages), std::as_writable_bytes(std::span(&pages, 1)));
    return pages;
  };
  CHECK(wanted() == 5);
  CHECK(device.given() == 0);
  constexpr std::uint32_t all = 0xFFFF'FFFF;
  device.write_config(offsetof(balloon::Config, actual), std::as_bytes(std::span(&all, 1)));
  CHECK(device.given() == std::uint64_t{all} * balloon::page_size);
  device.reset();
  CHECK(wanted() == 5);
  CHECK(device.given() == 0);
}

TEST_CASE_METHOD(Fixture, "the driver writes its two fields of the configuration, and no others") {
  write_config(offsetof(balloon::Config, actual), 7);
  CHECK(config(offsetof(balloon::Config, actual)) == 7);
  write_config(offsetof(balloon::Config, num_pages), 7);
  CHECK(config(offsetof(balloon::Config, num_pages)) == 0);
  write_config(offsetof(balloon::Config, actual) + 1, 7);
  const std::array narrow{std::byte{9}};
  device.write_config(offsetof(balloon::Config, actual), narrow);
  write_config(~std::uint64_t{0}, 7);
  CHECK(config(offsetof(balloon::Config, actual)) == 7);
  device.reset();
  CHECK(config(offsetof(balloon::Config, actual)) == 0);
}

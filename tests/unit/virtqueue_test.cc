#include "devices/virtio/virtqueue.h"

#include <catch2/catch.hpp>
#include <limits>

#include "tests/fake_driver.h"

using namespace minivm;
using namespace minivm::virtio;
using minivm::test::FakeDriver;

namespace {

constexpr std::uint64_t all_ring_features = feature::version_1 | feature::indirect_desc | feature::event_idx;

struct Fixture {
  GuestMemory memory{16 << 20};
  FakeDriver driver{memory, Gpa{0x10000}, 16};
  DescriptorChain chain;
};

std::optional<QueueError> create_error(const GuestMemory& memory, const QueueConfig& config) {
  const auto queue = Virtqueue::create(config, 256, feature::version_1, memory);
  return queue ? std::nullopt : std::optional(queue.error());
}

// Every chain that the driver offered by hand comes back unused.
void expect_malformed(Fixture& fixture, Virtqueue& queue, std::uint16_t head) {
  CHECK_FALSE(queue.pop(fixture.chain));
  CHECK_FALSE(queue.broken());
  const auto used = fixture.driver.take_used();
  REQUIRE(used);
  CHECK(used->head == head);
  CHECK(used->written == 0);
}

}  // namespace

TEST_CASE("registers become a queue only when size, alignment and place of every ring are right") {
  const GuestMemory memory(1 << 20);
  const QueueConfig good{.size = 256,
                         .ready = true,
                         .descriptor_table = Gpa{0x1000},
                         .available_ring = Gpa{0x3002},
                         .used_ring = Gpa{0x4004}};
  CHECK(create_error(memory, good) == std::nullopt);

  for (const int size : {0, 3, 255, 257, 512, 32768, 65535}) {
    QueueConfig config = good;
    config.size = static_cast<std::uint16_t>(size);
    CHECK(create_error(memory, config) == QueueError::bad_size);
  }
  const auto with = [&](auto member, std::uint64_t value) {
    QueueConfig config = good;
    config.*member = Gpa{value};
    return create_error(memory, config);
  };
  CHECK(with(&QueueConfig::descriptor_table, 0x1008) == QueueError::misaligned);
  CHECK(with(&QueueConfig::available_ring, 0x3001) == QueueError::misaligned);
  CHECK(with(&QueueConfig::used_ring, 0x4002) == QueueError::misaligned);
}

TEST_CASE("a ring whose start alone is in RAM is refused (CVE-2019-18960)") {
  const std::uint64_t ram = 1 << 20;
  const GuestMemory memory(ram);
  const QueueConfig good{
      .size = 16, .ready = true, .descriptor_table = Gpa{0}, .available_ring = Gpa{0x1000}, .used_ring = Gpa{0x2000}};
  const auto with = [&](auto member, std::uint64_t value) {
    QueueConfig config = good;
    config.*member = Gpa{value};
    return create_error(memory, config);
  };
  // The last place that fits, and the next one: 16 descriptors are 256 bytes, the rings 4 + 2n + 2 and 4 + 8n + 2.
  CHECK(with(&QueueConfig::descriptor_table, ram - 256) == std::nullopt);
  CHECK(with(&QueueConfig::descriptor_table, ram - 240) == QueueError::outside_memory);
  CHECK(with(&QueueConfig::available_ring, ram - 38) == std::nullopt);
  CHECK(with(&QueueConfig::available_ring, ram - 36) == QueueError::outside_memory);
  CHECK(with(&QueueConfig::used_ring, ram - 136) == std::nullopt);
  CHECK(with(&QueueConfig::used_ring, ram - 132) == QueueError::outside_memory);
  for (const std::uint64_t address : {ram, std::uint64_t{0xFFFF'FFFF'FFFF'FFF0}}) {
    CHECK(with(&QueueConfig::descriptor_table, address) == QueueError::outside_memory);
    CHECK(with(&QueueConfig::available_ring, address) == QueueError::outside_memory);
    CHECK(with(&QueueConfig::used_ring, address) == QueueError::outside_memory);
  }
}

TEST_CASE_METHOD(Fixture, "a chain arrives as two lists over guest memory, in order, and goes back with its length") {
  Virtqueue queue = driver.activate();
  CHECK_FALSE(queue.pop(chain));
  const std::uint16_t head =
      driver.readable(std::uint32_t{7}).readable(std::uint64_t{8}).writable(5).writable(6).offer();
  REQUIRE(queue.pop(chain));
  CHECK(chain.head() == head);
  REQUIRE(chain.readable().size() == 2);
  REQUIRE(chain.writable().size() == 2);
  CHECK(chain.readable_size() == 12);
  CHECK(chain.writable_size() == 11);
  CHECK(*static_cast<const std::uint32_t*>(chain.readable()[0].iov_base) == 7);
  CHECK(*static_cast<const std::uint64_t*>(chain.readable()[1].iov_base) == 8);
  std::memset(chain.writable()[0].iov_base, 0xAA, 5);
  CHECK_FALSE(queue.pop(chain));

  queue.push_used(head, 5);
  const auto used = driver.take_used();
  REQUIRE(used);
  CHECK(used->head == head);
  CHECK(used->written == 5);
  CHECK(std::to_integer<int>(used->bytes[4]) == 0xAA);
  CHECK_FALSE(driver.take_used());
}

TEST_CASE_METHOD(Fixture, "indexes wrap around at 65536 and go on") {
  const std::uint64_t features = GENERATE(std::uint64_t{feature::version_1}, all_ring_features);
  Virtqueue queue = driver.activate(features);
  for (std::uint32_t i = 0; i < 70'000; ++i) {
    driver.readable(i).offer();
    if (!queue.pop(chain) || *static_cast<const std::uint32_t*>(chain.readable()[0].iov_base) != i) {
      FAIL("chain " << i << " is lost");
    }
    queue.push_used(chain.head(), 0);
    if (!queue.needs_interrupt()) FAIL("no interrupt for chain " << i);
    if (!driver.take_used()) FAIL("chain " << i << " is not returned");
  }
}

TEST_CASE_METHOD(Fixture, "chains return in any order") {
  Virtqueue queue = driver.activate();
  const std::uint16_t first = driver.writable(1).offer();
  const std::uint16_t second = driver.writable(2).offer();
  REQUIRE(queue.pop(chain));
  REQUIRE(queue.pop(chain));
  queue.push_used(second, 2);
  queue.push_used(first, 1);
  CHECK(driver.take_used()->head == second);
  CHECK(driver.take_used()->head == first);
}

TEST_CASE_METHOD(Fixture, "a popped chain can be put back and comes again") {
  Virtqueue queue = driver.activate();
  const std::uint16_t first = driver.writable(1).offer();
  driver.writable(1).offer();
  REQUIRE(queue.pop(chain));
  queue.undo_pop();
  REQUIRE(queue.pop(chain));
  CHECK(chain.head() == first);
  CHECK(driver.used_idx() == 0);
}

TEST_CASE_METHOD(Fixture, "a chain that the device still holds cannot come again (rule 28, CVE-2026-45782)") {
  Virtqueue queue = driver.activate();
  const std::uint16_t head = driver.writable(1).offer();
  REQUIRE(queue.pop(chain));
  driver.make_available(head);
  SECTION("until it is returned") {
    queue.push_used(head, 0);
    CHECK(queue.pop(chain));
    CHECK(chain.head() == head);
  }
  SECTION("or put back") {
    queue.undo_pop();
    CHECK(queue.pop(chain));
  }
  SECTION("else the queue is broken") {
    CHECK_FALSE(queue.pop(chain));
    CHECK(queue.fault() == QueueError::head_in_use);
    CHECK(driver.used_idx() == 0);
  }
}

TEST_CASE_METHOD(Fixture, "an avail index ahead by more than the queue size breaks the queue for good (rule 5)") {
  Virtqueue queue = driver.activate();
  driver.writable(1).offer();
  driver.set_available_idx(17);
  CHECK_FALSE(queue.pop(chain));
  CHECK(queue.fault() == QueueError::available_overrun);
  driver.set_available_idx(1);
  CHECK_FALSE(queue.pop(chain));
  CHECK(queue.broken());
  CHECK_FALSE(queue.enable_notifications());
}

TEST_CASE_METHOD(Fixture, "an avail index ahead by the whole queue size is legal") {
  Virtqueue queue = driver.activate();
  for (int i = 0; i < 16; ++i) driver.writable(1).offer();
  for (int i = 0; i < 16; ++i) CHECK(queue.pop(chain));
  CHECK_FALSE(queue.pop(chain));
  CHECK_FALSE(queue.broken());
}

TEST_CASE_METHOD(Fixture, "an avail index that goes backwards breaks the queue") {
  Virtqueue queue = driver.activate();
  driver.writable(1).offer();
  driver.writable(1).offer();
  REQUIRE(queue.pop(chain));
  REQUIRE(queue.pop(chain));
  driver.set_available_idx(1);
  CHECK_FALSE(queue.pop(chain));
  CHECK(queue.fault() == QueueError::available_overrun);
}

TEST_CASE_METHOD(Fixture, "a head beyond the descriptor table cannot be returned, so it breaks the queue") {
  Virtqueue queue = driver.activate();
  driver.make_available(16);
  CHECK_FALSE(queue.pop(chain));
  CHECK(queue.fault() == QueueError::bad_head);
  CHECK(driver.used_idx() == 0);
}

TEST_CASE_METHOD(Fixture, "a loop of descriptors is returned unused (rule 6)") {
  Virtqueue queue = driver.activate();
  const bool writes = GENERATE(false, true);
  const std::uint16_t flags = Descriptor::next_flag | (writes ? Descriptor::write_flag : std::uint16_t{0});
  SECTION("to itself") {
    driver.write_descriptor(3, {0x100000, 1, flags, 3});
    driver.make_available(3);
    expect_malformed(*this, queue, 3);
  }
  SECTION("through all descriptors") {
    for (std::uint16_t i = 0; i < 16; ++i) {
      driver.write_descriptor(i, {0x100000, 1, flags, static_cast<std::uint16_t>((i + 1) % 16)});
    }
    driver.make_available(0);
    expect_malformed(*this, queue, 0);
  }
  SECTION("of empty buffers") {
    driver.write_descriptor(0, {0x100000, 0, flags, 0});
    driver.make_available(0);
    expect_malformed(*this, queue, 0);
  }
}

TEST_CASE_METHOD(Fixture, "a chain that breaks a rule is returned unused and the next one is served (rule 12)") {
  Virtqueue queue = driver.activate(all_ring_features);
  const std::uint64_t ram = memory.size();
  std::uint16_t head = 0;
  SECTION("next beyond the table") {
    driver.write_descriptor(15, {0x100000, 1, Descriptor::next_flag, 16});
    driver.make_available(head = 15);
  }
  SECTION("buffer outside RAM") { head = driver.buffer_at(Gpa{ram}, 1, true).offer(); }
  SECTION("buffer crosses the end of RAM") { head = driver.buffer_at(Gpa{ram - 8}, 9, false).offer(); }
  SECTION("address plus length overflows") { head = driver.buffer_at(Gpa{~std::uint64_t{0}}, 2, false).offer(); }
  SECTION("length of 4 GiB - 1 in small RAM") { head = driver.buffer_at(Gpa{0}, 0xFFFF'FFFF, true).offer(); }
  SECTION("readable after writable") { head = driver.writable(4).readable(std::uint32_t{1}).offer(); }
  SECTION("second buffer outside RAM") { head = driver.writable(4).buffer_at(Gpa{ram}, 4, true).offer(); }
  expect_malformed(*this, queue, head);
  const std::uint16_t good = driver.writable(4).offer();
  REQUIRE(queue.pop(chain));
  CHECK(chain.head() == good);
}

TEST_CASE("a chain of more than 4 GiB in all is malformed even though each buffer is in RAM (rule 6)") {
  GuestMemory memory(std::uint64_t{2} << 30);  // lazily backed: only what the rings touch exists
  FakeDriver driver(memory, Gpa{0x10000}, 16);
  Virtqueue queue = driver.activate();
  DescriptorChain chain;
  const std::uint32_t gib = 1 << 30;
  driver.buffer_at(Gpa{0}, gib, true).buffer_at(Gpa{0}, gib, true).buffer_at(Gpa{0}, gib, true);
  driver.buffer_at(Gpa{0}, gib - 1, true).offer();
  REQUIRE(queue.pop(chain));
  CHECK(chain.writable_size() == std::numeric_limits<std::uint32_t>::max());
  driver.buffer_at(Gpa{0}, gib, true).buffer_at(Gpa{0}, gib, true).buffer_at(Gpa{0}, gib, true);
  driver.buffer_at(Gpa{0}, gib, true).offer();
  CHECK_FALSE(queue.pop(chain));
  CHECK_FALSE(queue.broken());
}

TEST_CASE("a buffer across two regions of RAM is malformed") {
  GuestMemory memory(GuestMemory::hole_start + (1 << 20));
  FakeDriver driver(memory, Gpa{0x10000}, 4);
  Virtqueue queue = driver.activate();
  DescriptorChain chain;
  driver.buffer_at(Gpa{GuestMemory::hole_start - 4}, 8, true).offer();
  CHECK_FALSE(queue.pop(chain));
  driver.buffer_at(Gpa{GuestMemory::hole_start - 4}, 4, true).buffer_at(Gpa{GuestMemory::hole_end}, 4, true).offer();
  CHECK(queue.pop(chain));
}

TEST_CASE_METHOD(Fixture, "empty buffers are left out of the lists") {
  Virtqueue queue = driver.activate();
  driver.buffer_at(Gpa{0}, 0, false).readable(std::uint32_t{5}).buffer_at(Gpa{0}, 0, true).writable(1).offer();
  REQUIRE(queue.pop(chain));
  CHECK(chain.readable().size() == 1);
  CHECK(chain.writable().size() == 1);
}

TEST_CASE_METHOD(Fixture, "a driver that offers nothing but malformed chains cannot keep pop busy for ever") {
  Virtqueue queue = driver.activate();
  driver.write_descriptor(0, {0, 1, Descriptor::next_flag, 0});
  std::uint32_t offered = 0;
  for (; offered < 2 * Virtqueue::max_malformed_in_a_row && !queue.broken(); ++offered) {
    driver.make_available(0);
    CHECK_FALSE(queue.pop(chain));
    driver.take_used();
  }
  CHECK(queue.fault() == QueueError::malformed_chains);
  CHECK(offered == Virtqueue::max_malformed_in_a_row + 1);
}

TEST_CASE_METHOD(Fixture, "indirect: the table's buffers follow the direct ones (rule 7)") {
  Virtqueue queue = driver.activate(all_ring_features);
  const std::size_t direct = GENERATE(std::size_t{0}, std::size_t{1}, std::size_t{2});
  driver.readable(std::uint32_t{1}).readable(std::uint32_t{2}).writable(3).writable(4);
  const std::uint16_t head = driver.offer_indirect(direct);
  REQUIRE(queue.pop(chain));
  CHECK(chain.head() == head);
  REQUIRE(chain.readable().size() == 2);
  CHECK(*static_cast<const std::uint32_t*>(chain.readable()[1].iov_base) == 2);
  REQUIRE(chain.writable().size() == 2);
  CHECK(chain.writable()[1].iov_len == 4);
}

TEST_CASE_METHOD(Fixture, "indirect: a table may be longer than the queue, unaligned, and marked WRITE (rule 7)") {
  Virtqueue queue = driver.activate(all_ring_features);
  const std::uint32_t entries = GENERATE(1U, 17U, 1024U);
  const Gpa table = driver.allocate(entries * 16 + 16) + 3;
  for (std::uint32_t i = 0; i < entries; ++i) {
    const bool last = i + 1 == entries;
    memory.write(table + 16 * i, Descriptor{0x200000, 1, static_cast<std::uint16_t>(last ? 0 : Descriptor::next_flag),
                                            static_cast<std::uint16_t>(i + 1)});
  }
  driver.write_descriptor(
      2, {raw(table), entries * 16, static_cast<std::uint16_t>(Descriptor::indirect_flag | Descriptor::write_flag), 0});
  driver.make_available(2);
  REQUIRE(queue.pop(chain));
  CHECK(chain.readable().size() == entries);
  CHECK(chain.writable().empty());
}

TEST_CASE_METHOD(Fixture, "indirect: tables that break a rule are returned unused (rule 7)") {
  std::uint64_t features = all_ring_features;
  const Gpa table = driver.allocate(2048 * 16);
  const Gpa inner = driver.allocate(16);
  memory.write(table, Descriptor{0x200000, 1, 0, 0});
  memory.write(inner, Descriptor{0x200000, 1, 0, 0});
  Descriptor referrer{raw(table), 16, Descriptor::indirect_flag, 0};
  SECTION("not negotiated") { features = feature::version_1; }
  SECTION("empty") { referrer.length = 0; }
  SECTION("length no multiple of 16") { referrer.length = 24; }
  SECTION("longer than the bound") { referrer.length = 1025 * 16; }
  SECTION("of 4 GiB") { referrer.length = 0xFFFF'FFF0; }
  SECTION("outside RAM") { referrer.address = memory.size(); }
  SECTION("crossing the end of RAM") {
    referrer.address = memory.size() - 16;
    referrer.length = 32;
  }
  SECTION("together with NEXT") {
    referrer.flags |= Descriptor::next_flag;
    referrer.next = 5;
    driver.write_descriptor(5, {0x200000, 1, 0, 0});
  }
  SECTION("nested") { memory.write(table, Descriptor{raw(inner), 16, Descriptor::indirect_flag, 0}); }
  SECTION("next beyond the table") { memory.write(table, Descriptor{0x200000, 1, Descriptor::next_flag, 1}); }
  SECTION("a loop within") { memory.write(table, Descriptor{0x200000, 1, Descriptor::next_flag, 0}); }
  Virtqueue queue = driver.activate(features);
  driver.write_descriptor(4, referrer);
  driver.make_available(4);
  expect_malformed(*this, queue, 4);
}

TEST_CASE_METHOD(Fixture, "no chain has more buffers than one preadv takes") {
  Virtqueue queue = driver.activate(all_ring_features);
  const Gpa table = driver.allocate(1024 * 16);
  for (std::uint16_t i = 0; i < 1024; ++i) {
    memory.write(table + std::uint64_t{16} * i,
                 Descriptor{0x200000, 1, i == 1023 ? std::uint16_t{0} : Descriptor::next_flag,
                            static_cast<std::uint16_t>(i + 1)});
  }
  driver.write_descriptor(0, {0x200000, 1, Descriptor::next_flag, 1});
  driver.write_descriptor(1, {raw(table), 1024 * 16, Descriptor::indirect_flag, 0});
  driver.make_available(0);
  expect_malformed(*this, queue, 0);
}

TEST_CASE_METHOD(Fixture, "without EVENT_IDX flags suppress interrupts and notifications") {
  Virtqueue queue = driver.activate();
  CHECK_FALSE(queue.needs_interrupt());
  const auto serve = [&] {
    driver.writable(1).offer();
    REQUIRE(queue.pop(chain));
    queue.push_used(chain.head(), 0);
    return queue.needs_interrupt();
  };
  CHECK(serve());
  driver.suppress_interrupts(true);
  CHECK_FALSE(serve());
  driver.suppress_interrupts(false);
  CHECK(serve());

  queue.disable_notifications();
  CHECK_FALSE(driver.should_notify());
  CHECK_FALSE(queue.enable_notifications());
  CHECK(driver.should_notify());
}

TEST_CASE_METHOD(Fixture, "with EVENT_IDX a batch interrupts only when it passes used_event (rule 1)") {
  Virtqueue queue = driver.activate(all_ring_features);
  const auto serve = [&](int count) {
    for (int i = 0; i < count; ++i) driver.writable(1).offer();
    while (queue.pop(chain)) queue.push_used(chain.head(), 0);
    return queue.needs_interrupt();
  };
  driver.set_used_event(0);
  CHECK(serve(1));
  driver.set_used_event(3);  // wants to hear of the fourth
  CHECK_FALSE(serve(2));     // idx 3
  CHECK(serve(1));           // idx 4
  CHECK_FALSE(serve(3));     // idx 7: passed already
  driver.set_used_event(8);
  CHECK(serve(4));  // idx 11: passed within the batch
  driver.suppress_interrupts(true);
  driver.set_used_event(11);
  CHECK(serve(1));  // the flag means nothing now (2.7.7.2)
}

TEST_CASE_METHOD(Fixture, "with EVENT_IDX the device asks for the next buffer only when it goes idle (rule 3)") {
  Virtqueue queue = driver.activate(all_ring_features);
  CHECK_FALSE(queue.enable_notifications());
  CHECK(driver.available_event() == 0);
  driver.writable(1).offer();
  CHECK(driver.should_notify());
  queue.disable_notifications();
  driver.writable(1).offer();
  CHECK_FALSE(driver.should_notify());
  REQUIRE(queue.pop(chain));
  CHECK(queue.enable_notifications());  // one slipped in: drain again
  REQUIRE(queue.pop(chain));
  CHECK_FALSE(queue.enable_notifications());
  CHECK(driver.available_event() == 2);
}

#include "base/guest_memory.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <system_error>

#include "base/fd.h"

using namespace minivm;

namespace {

constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t max = ~std::uint64_t{0};

}  // namespace

TEST_CASE("small RAM is one region; what does not fit below the hole goes on at 4 GiB") {
  const GuestMemory small(64 * mib);
  REQUIRE(small.regions().size() == 1);
  CHECK(raw(small.regions()[0].start) == 0);
  CHECK(small.regions()[0].size == 64 * mib);

  const GuestMemory exact(GuestMemory::hole_start);
  CHECK(exact.regions().size() == 1);

  const GuestMemory large(GuestMemory::hole_start + mib);
  REQUIRE(large.regions().size() == 2);
  CHECK(large.regions()[0].size == GuestMemory::hole_start);
  CHECK(raw(large.regions()[1].start) == GuestMemory::hole_end);
  CHECK(large.regions()[1].size == mib);
  CHECK(large.size() == GuestMemory::hole_start + mib);
}

TEST_CASE("RAM begins at a huge page of the host, so that KVM can map it by huge pages") {
  constexpr std::uintptr_t huge_page_size = 2 * mib;
  // Several at once: one alone may be aligned by luck.
  const GuestMemory odd(mib + GuestMemory::page_size);
  const GuestMemory even(4 * mib);
  const GuestMemory large(GuestMemory::hole_start + mib);
  for (const GuestMemory* memory : {&odd, &even, &large}) {
    for (const GuestMemory::Region& region : memory->regions()) {
      CHECK(reinterpret_cast<std::uintptr_t>(region.host) % huge_page_size == 0);
    }
  }
}

TEST_CASE("a slice exists only when the whole of it lies in one region (CVE-2019-18960)") {
  const GuestMemory memory(mib);
  CHECK(memory.slice(Gpa{0}, mib));
  CHECK_FALSE(memory.slice(Gpa{0}, mib + 1));
  CHECK(memory.slice(Gpa{mib - 1}, 1));
  CHECK_FALSE(memory.slice(Gpa{mib - 1}, 2));
  CHECK_FALSE(memory.slice(Gpa{mib}, 0));
  CHECK_FALSE(memory.slice(Gpa{mib}, 1));
  CHECK(memory.slice(Gpa{mib - 1}, 0));
  // Sums that wrap around.
  CHECK_FALSE(memory.slice(Gpa{1}, max));
  CHECK_FALSE(memory.slice(Gpa{max}, 1));
  CHECK_FALSE(memory.slice(Gpa{max}, 2));
  CHECK_FALSE(memory.slice(Gpa{max - 8}, max));

  const GuestMemory two(GuestMemory::hole_start + mib);
  CHECK(two.slice(Gpa{GuestMemory::hole_end}, mib));
  CHECK_FALSE(two.slice(Gpa{GuestMemory::hole_end}, mib + 1));
  CHECK_FALSE(two.slice(Gpa{GuestMemory::hole_start}, 1));
  CHECK_FALSE(two.slice(Gpa{GuestMemory::hole_start - 1}, 2));
  CHECK_FALSE(two.slice(Gpa{GuestMemory::hole_end - 1}, 2));
  CHECK_FALSE(two.slice(Gpa{0}, GuestMemory::hole_start + mib));
}

TEST_CASE("the regions are different memory, zero at first, and values copy in and out at any alignment") {
  const GuestMemory memory(GuestMemory::hole_start + mib);
  const Gpa low{GuestMemory::hole_start - 9};
  const Gpa high{GuestMemory::hole_end + 3};
  CHECK(memory.read<std::uint64_t>(low) == std::uint64_t{0});
  CHECK(memory.write(low, std::uint64_t{0x1122'3344'5566'7788}));
  CHECK(memory.write(high, std::uint64_t{42}));
  CHECK(memory.read<std::uint64_t>(low) == std::uint64_t{0x1122'3344'5566'7788});
  CHECK(memory.read<std::uint64_t>(high) == std::uint64_t{42});
  CHECK(memory.read<std::uint8_t>(low) == std::uint8_t{0x88});

  CHECK_FALSE(memory.write(low + 2, std::uint64_t{1}));
  CHECK_FALSE(memory.read<std::uint64_t>(low + 2));
  CHECK(memory.read<std::uint64_t>(low) == std::uint64_t{0x1122'3344'5566'7788});

  const std::array bytes{std::byte{1}, std::byte{2}};
  CHECK(memory.write_bytes(Gpa{0}, bytes));
  CHECK(memory.read<std::uint16_t>(Gpa{0}) == std::uint16_t{0x0201});
  CHECK_FALSE(memory.write_bytes(Gpa{GuestMemory::hole_start - 1}, bytes));
}

TEST_CASE("sizes that are no whole pages, and more than the host can map, are refused") {
  CHECK_THROWS_AS(GuestMemory(0), std::invalid_argument);
  CHECK_THROWS_AS(GuestMemory(4095), std::invalid_argument);
  CHECK_THROWS_AS(GuestMemory(std::uint64_t{1} << 62), std::system_error);
}

TEST_CASE("a file mapped into RAM is read from there, and guest writes never reach it") {
  char path[] = "/tmp/minivm-test-XXXXXX";
  const UniqueFd file(::mkstemp(path));
  REQUIRE(file);
  ::unlink(path);
  REQUIRE(::ftruncate(file.get(), 8192) == 0);
  REQUIRE(::pwrite(file.get(), "page two", 8, 4096) == 8);

  GuestMemory memory(mib);
  memory.write(Gpa{0x3000}, std::uint64_t{7});
  memory.map_private(Gpa{0x2000}, file.get(), 4096, 4096);
  CHECK(memory.read<char>(Gpa{0x2000}) == 'p');
  CHECK(memory.read<std::uint64_t>(Gpa{0x3000}) == std::uint64_t{7});
  memory.write(Gpa{0x2000}, 'X');
  char first = 0;
  REQUIRE(::pread(file.get(), &first, 1, 4096) == 1);
  CHECK(first == 'p');

  CHECK_THROWS_AS(memory.map_private(Gpa{0x2001}, file.get(), 0, 4096), std::invalid_argument);
  CHECK_THROWS_AS(memory.map_private(Gpa{0x2000}, file.get(), 1, 4096), std::invalid_argument);
  CHECK_THROWS_AS(memory.map_private(Gpa{0x2000}, file.get(), 0, 100), std::invalid_argument);
  CHECK_THROWS_AS(memory.map_private(Gpa{mib - 4096}, file.get(), 0, 8192), std::invalid_argument);
  CHECK_THROWS_AS(memory.map_private(Gpa{0}, -1, 0, 4096), std::system_error);
}

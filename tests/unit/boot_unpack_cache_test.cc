#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <thread>

#include "boot/kernel.h"
#include "boot/kernel_image.h"
#include "boot/place.h"
#include "boot/read_at.h"
#include "boot/unpack_cache.h"
#include "tests/own_mapping.h"
#include "tests/synthetic_kernel.h"

namespace minivm::boot {
namespace {

namespace fs = std::filesystem;

class CachedKernel {
 public:
  Kernel open() const { return Kernel::open(kernel, {.cache_directory = cache}); }

  // The content of the kernel's first segment, which `sample_elf` makes different for every seed.
  static std::string text(const Kernel& opened) {
    const Segment& segment = opened.image().segments.at(0);
    std::string content(segment.file_size, '\0');
    REQUIRE(read_at(opened.image().file.get(), segment.file_offset, std::as_writable_bytes(std::span(content))));
    return content;
  }
  bool opens_right() const { return text(open()) == test::sample_elf().pieces[0].content; }

  std::vector<fs::path> entries() const { return named(".vmlinux"); }
  std::vector<fs::path> named(std::string_view end) const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(cache)) {
      if (entry.path().string().ends_with(end)) found.push_back(entry.path());
    }
    return found;
  }

  test::ScratchDirectory scratch;
  std::string cache = scratch.path("parent/cache");
  std::string kernel = scratch.write("vmlinuz", test::sample_bzimage());
};

// Runs `body` in a process of its own; true when it returned true.
template <typename Body>
pid_t start_process(Body body) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    bool good = false;
    try {
      good = body();
    } catch (...) {
      good = false;
    }
    ::_exit(good ? 0 : 1);
  }
  return child;
}

int exit_code(pid_t child) {
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void wait_until_settled(const std::string& path) {
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  while (!settled(status)) std::this_thread::sleep_for(std::chrono::milliseconds(100));
}

}  // namespace

TEST_CASE("the cache directory is made, for its user alone, and holds one entry a kernel") {
  const CachedKernel cached;
  CHECK(cached.opens_right());
  CHECK(fs::status(cached.cache).permissions() == fs::perms::owner_all);
  CHECK(cached.entries().size() == 1);
  const auto written = fs::last_write_time(cached.entries()[0]);
  CHECK(cached.opens_right());
  fs::copy_file(cached.kernel, cached.scratch.path("copy"));
  CHECK(CachedKernel::text(Kernel::open(cached.scratch.path("copy"), {.cache_directory = cached.cache})) ==
        test::sample_elf().pieces[0].content);
  REQUIRE(cached.entries().size() == 1);
  CHECK(fs::last_write_time(cached.entries()[0]) == written);
}

TEST_CASE("a cached image is an ELF file cut to what is loaded") {
  const CachedKernel cached;
  const Kernel kernel = cached.open();
  const auto dump = cached.scratch.run("readelf -lW '" + cached.entries()[0].string() + "'");
  CHECK(dump.status == 0);
  CHECK(dump.output.find("Warning") == std::string::npos);
  CHECK(dump.output.find("0x0000000001100010 0x002328 0x007530") != std::string::npos);
  CHECK(fs::file_size(cached.entries()[0]) < test::sample_elf().build().size() - 3000);
}

TEST_CASE("zeros at a segment's end are memory, not file") {
  test::SyntheticElf elf = test::sample_elf();
  elf.pieces[1].content += std::string(20'000, '\0');
  test::ScratchDirectory scratch;
  const std::string path =
      scratch.write("vmlinuz", test::SyntheticBzImage{.payload = test::pack(elf.build(), "zstd -q")}.build());
  const Kernel kernel = Kernel::open(path, {.cache_directory = scratch.path("cache")});
  CHECK(kernel.image().segments.at(1).file_size == 9000);
  CHECK(kernel.image().segments.at(1).memory_size == 30000);
}

TEST_CASE("pages of filler in code are holes of the entry, and memory that nobody touched; data stay as they are") {
  constexpr std::size_t page = 4096;
  test::SyntheticElf elf = test::sample_elf();
  std::string& content = elf.pieces[0].content;
  // 64 pages of int3, of which the first and last are shared with code, then as many zeros, and code again.
  content += std::string(64 * page, '\xCC') + std::string(64 * page, '\0') + std::string(page, 'x');
  elf.pieces[0].memory_size = content.size();
  elf.pieces[1].content += std::string(4 * page, '\xCC') + 'x';
  elf.pieces[1].flags = PF_R | PF_W;
  const test::ScratchDirectory scratch;
  const std::string path =
      scratch.write("vmlinuz", test::SyntheticBzImage{.payload = test::pack(elf.build(), "zstd -q")}.build());
  const Kernel kernel = Kernel::open(path, {.cache_directory = scratch.path("cache")});
  const Kernel::Image& image = kernel.image();

  struct stat status {};
  REQUIRE(::fstat(image.file.get(), &status) == 0);
  CHECK(status.st_blocks * 512 < status.st_size - static_cast<off_t>(120 * page));

  GuestMemory memory(64U << 20);
  place_kernel(memory, image);
  const auto placed = memory.slice(image.segments.at(0).address, content.size());
  REQUIRE(placed);
  std::string wanted = content;
  // What was int3 for whole pages of the file is zero now.
  const std::uint64_t offset = image.segments.at(0).file_offset;
  for (std::uint64_t at = 0; at + page <= wanted.size(); at += 1) {
    if ((offset + at) % page != 0) continue;
    if (wanted.compare(at, page, std::string(page, '\xCC')) == 0) wanted.replace(at, page, page, '\0');
  }
  CHECK(std::memcmp(placed->data(), wanted.data(), wanted.size()) == 0);
  const std::string& data = elf.pieces[1].content;
  const auto placed_data = memory.slice(image.segments.at(1).address, data.size());
  REQUIRE(placed_data);
  CHECK(std::memcmp(placed_data->data(), data.data(), data.size()) == 0);
}

TEST_CASE("a huge page that a kernel fills with next to nothing is backed by small pages") {
  constexpr std::size_t page = 4096;
  constexpr std::size_t huge = GuestMemory::huge_page_size;
  test::SyntheticElf elf = test::sample_elf();
  const Gpa start{elf.pieces[0].address};
  REQUIRE(raw(start) % huge == 0);
  std::string& content = elf.pieces[0].content;
  content.resize(4 * huge + page, 'x');  // the fifth one is the kernel's only in part
  content.replace(huge + page, 2 * huge - 3 * page, 2 * huge - 3 * page, '\xCC');
  elf.pieces[0].memory_size = content.size();
  elf.pieces[1].address = 0x200'0000;
  const test::ScratchDirectory scratch;
  const std::string path =
      scratch.write("vmlinuz", test::SyntheticBzImage{.payload = test::pack(elf.build(), "zstd -q")}.build());
  const Kernel kernel = Kernel::open(path, {.cache_directory = scratch.path("cache")});
  GuestMemory memory(64U << 20);
  place_kernel(memory, kernel.image());
  std::string pages;
  for (std::size_t i = 0; i < 5; ++i) {
    const auto bytes = memory.slice(start + i * huge, huge).value();
    pages += test::own_mapping(bytes.data()).value().small_pages_only ? 's' : 'h';
  }
  CHECK(pages == "hsshh");
  CHECK(memory.read<char>(start + (huge + page - 1)) == 'x');
  CHECK(memory.read<char>(start + (huge + page)) == '\0');
  CHECK(memory.read<char>(start + (3 * huge - 2 * page)) == 'x');
}

TEST_CASE("a damaged entry is made again") {
  const CachedKernel cached;
  REQUIRE(cached.opens_right());
  const fs::path entry = cached.entries().at(0);
  const auto size = fs::file_size(entry);
  const auto overwrite = [&](std::uint64_t offset, std::string_view bytes) {
    const int fd = ::open(entry.c_str(), O_WRONLY);
    CHECK(::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes.size()));
    ::close(fd);
  };
  SECTION("empty") { fs::resize_file(entry, 0); }
  SECTION("cut") { fs::resize_file(entry, size - 1); }
  SECTION("cut to its head") { fs::resize_file(entry, 4096); }
  SECTION("too long") { fs::resize_file(entry, size + 4096); }
  SECTION("damaged program header") { overwrite(100, "\xFF\xFF"); }
  SECTION("damaged footer") { overwrite(size - 40, "\xFF"); }
  SECTION("zeros, as after a crash of the host") { overwrite(0, std::string(size, '\0')); }
  CHECK(cached.opens_right());
  REQUIRE(cached.entries().size() == 1);
  CHECK(fs::file_size(entry) == size);
}

TEST_CASE("a file that has settled is known by its identity, and one that has changed is not") {
  const CachedKernel cached;
  CHECK(cached.opens_right());
  struct stat status {};
  REQUIRE(::stat(cached.kernel.c_str(), &status) == 0);
  const fs::path alias = fs::path(cached.cache) / identity(status);
  CHECK_FALSE(fs::is_symlink(alias));  // one more change now could leave the file's times as they are

  wait_until_settled(cached.kernel);
  CHECK(cached.opens_right());
  REQUIRE(fs::is_symlink(alias));

  // Lead the identity to another kernel's entry: whoever still gets the old content did read the file again.
  const std::string other = cached.scratch.write("other", test::sample_bzimage(50));
  Kernel::open(other, {.cache_directory = cached.cache});
  const fs::path old_entry = fs::read_symlink(alias);
  for (const fs::path& entry : cached.entries()) {
    if (entry.filename() == old_entry) continue;
    fs::remove(alias);
    fs::create_symlink(entry.filename(), alias);
  }
  CHECK(CachedKernel::text(cached.open()) == test::sample_elf(50).pieces[0].content);

  SECTION("changed in place") { cached.scratch.write("vmlinuz", test::sample_bzimage()); }
  SECTION("its entry deleted") {
    for (const fs::path& entry : cached.entries()) fs::remove(entry);
  }
  CHECK(cached.opens_right());
}

TEST_CASE("an unusable directory costs the cache, not the boot") {
  CachedKernel cached;
  SECTION("none") { cached.cache.clear(); }
  SECTION("cannot be made") { cached.cache = cached.kernel + "/cache"; }
  SECTION("takes no files") { cached.cache = "/proc/self/fdinfo"; }
  SECTION("others may write to it") {
    cached.cache = cached.scratch.path("shared");
    fs::create_directory(cached.cache);
    fs::permissions(cached.cache, fs::perms::all);
  }
  CHECK(cached.opens_right());
  CHECK(cached.opens_right());
  if (cached.cache == cached.scratch.path("shared")) CHECK(cached.entries().empty());
}

TEST_CASE("a full disk costs the cache, not the boot") {
  const CachedKernel cached;
  const auto mount_small_disk = [&] {
    fs::create_directories(cached.cache);
    return ::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
           ::mount("none", cached.cache.c_str(), "tmpfs", 0, "size=8k,mode=0700") == 0;
  };
  if (exit_code(start_process(mount_small_disk)) != 0) {
    WARN("skipped: this host lets no user mount a tmpfs");
    return;
  }
  CHECK(exit_code(start_process([&] {
          return mount_small_disk() && cached.opens_right() && cached.opens_right() && fs::is_empty(cached.cache);
        })) == 0);
}

TEST_CASE("any number of processes and threads may open one kernel at once") {
  const CachedKernel cached;
  std::vector<pid_t> children;
  for (int i = 0; i < 8; ++i) {
    children.push_back(start_process([&] { return cached.opens_right() && cached.opens_right(); }));
  }
  for (const pid_t child : children) CHECK(exit_code(child) == 0);
  CHECK(cached.entries().size() == 1);

  fs::resize_file(cached.entries()[0], 100);
  std::atomic<int> good = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] { good += cached.open().image().segments.size() == 2 ? 1 : 0; });
    }
  }
  CHECK(good == 4);
  CHECK(cached.entries().size() == 1);
  CHECK(cached.opens_right());
}

TEST_CASE("what an ELF kernel says of itself is remembered once its file has settled") {
  const CachedKernel cached;
  const std::string path = cached.scratch.write("vmlinux", test::sample_elf().build());
  CHECK(Kernel::open(path, {.cache_directory = cached.cache}).release() == "6.9.1-sample");
  CHECK(cached.named(".facts").empty());
  wait_until_settled(path);
  for (int i = 0; i < 2; ++i) {
    CHECK(Kernel::open(path, {.cache_directory = cached.cache}).release() == "6.9.1-sample");
    CHECK(cached.named(".facts").size() == 1);
  }
}

}  // namespace minivm::boot

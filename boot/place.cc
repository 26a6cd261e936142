#include "boot/place.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>

#include "boot/read_at.h"

namespace minivm::boot {
namespace {

constexpr std::uint64_t page_mask = GuestMemory::page_size - 1;
constexpr std::uint64_t page_floor(std::uint64_t value) { return value & ~page_mask; }
constexpr std::uint64_t page_ceiling(std::uint64_t value) { return page_floor(value + page_mask); }
struct Extent {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

constexpr std::uint64_t mebibytes(std::uint64_t bytes) { return (bytes + (1U << 20) - 1) >> 20; }

/// The part of [from, end) of the file that begins with its next data and ends with its next hole; empty at `end` when
/// there is no more. A file system that knows no holes has one of data.
Extent next_data(int fd, std::uint64_t from, std::uint64_t end) noexcept {
  const off_t data = ::lseek(fd, static_cast<off_t>(from), SEEK_DATA);
  if (data < 0) return errno == ENXIO ? Extent{end, end} : Extent{from, end};
  const off_t hole = ::lseek(fd, data, SEEK_HOLE);
  const auto limit = [end](off_t offset) { return std::min(static_cast<std::uint64_t>(offset), end); };
  return {limit(data), hole < 0 ? end : limit(hole)};
}

bool has(int fd, std::uint64_t size) noexcept {
  struct stat status {};
  return ::fstat(fd, &status) == 0 && static_cast<std::uint64_t>(status.st_size) >= size;
}

/// Copied, not mapped: a kernel patches every page of its text while it boots (return thunks, lock prefixes,
/// paravirtual calls), so that each page of a mapping would be faulted in to be read, and again to be written. What is
/// copied lies in huge pages. RAM is new and zero, so holes are in place already.
void place_segment(const GuestMemory& memory, const Kernel::Image& image, const Segment& segment) {
  const auto target = memory.slice(segment.address, segment.file_size);
  const std::uint64_t end = segment.file_offset + segment.file_size;
  bool good = target && has(image.file.get(), end);
  for (std::uint64_t at = segment.file_offset; good && at < end;) {
    const Extent data = next_data(image.file.get(), at, end);
    good =
        read_at(image.file.get(), data.begin, target->subspan(data.begin - segment.file_offset, data.end - data.begin));
    at = data.end;
  }
  if (!good) {
    throw std::runtime_error(fmt::format("kernel {}: {} bytes at {} of its file cannot be read any more", image.path,
                                         segment.file_size, segment.file_offset));
  }
}

}  // namespace

void place_kernel(GuestMemory& memory, const Kernel::Image& image) {
  const std::uint64_t low_ram = memory.regions()[0].size;
  if (image.end > low_ram) {
    const bool hole = low_ram < memory.size();
    throw std::runtime_error(fmt::format("kernel {}: needs {} MiB, the guest has {} MiB{}", image.path,
                                         mebibytes(image.end), low_ram >> 20, hole ? " below the device hole" : ""));
  }
  for (const Segment& segment : image.segments) place_segment(memory, image, segment);
}

Placed place_initramfs(GuestMemory& memory, const Kernel::Image& image, const Initramfs& initramfs) {
  const std::uint64_t size = initramfs.size();
  if (size == 0) return {};
  // boot.rst, 1.3: initrd_addr_max is the highest address that the last byte may have.
  const std::uint64_t top = std::min(memory.regions()[0].size, std::uint64_t{image.header.initrd_addr_max} + 1);
  const std::uint64_t bottom = page_ceiling(image.end);
  if (bottom > top || size > top - bottom) {
    throw std::runtime_error(
        fmt::format("initrd: {} bytes do not fit between the kernel's end at {:#x} and {:#x}", size, bottom, top));
  }
  // Rounding down stays above `bottom`, which begins a page itself.
  const Gpa address{page_floor(top - size)};
  initramfs.write(*memory.slice(address, size));
  return {address, size};
}

}  // namespace minivm::boot

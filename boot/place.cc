#include "boot/place.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <stdexcept>
#include <vector>

#include "boot/read_at.h"

namespace minivm::boot {
namespace {

/// A booting kernel reads every page of its text and then patches it: return thunks, paravirtual calls, alternatives.
/// Pages of a mapped file cost it two faults each; what is copied lies in huge pages and costs one for 512. But the
/// copy takes time before the first instruction, so a larger kernel is mapped.
constexpr std::uint64_t copied_kernel_limit = 20U << 20;

/// A huge page costs as much as some ninety small ones, each with its fault: filled with zeros, on many hosts twice.
constexpr std::uint64_t filler_share = 8;

constexpr std::uint64_t page_mask = GuestMemory::page_size - 1;
constexpr std::uint64_t page_floor(std::uint64_t value) { return value & ~page_mask; }
constexpr std::uint64_t page_ceiling(std::uint64_t value) { return page_floor(value + page_mask); }
constexpr std::uint64_t mebibytes(std::uint64_t bytes) { return (bytes + (1U << 20) - 1) >> 20; }

void copy(const GuestMemory& memory, const Kernel::Image& image, Gpa to, std::uint64_t offset, std::uint64_t size) {
  const auto target = memory.slice(to, size);
  if (!target || !read_at(image.file.get(), offset, *target)) {
    throw std::runtime_error(
        fmt::format("kernel {}: {} bytes at {} of its file cannot be read any more", image.path, size, offset));
  }
}

/// Where the file has data again from `offset` on, or `end`.
std::uint64_t find_data(int file, std::uint64_t offset, std::uint64_t end) noexcept {
  const off_t data = ::lseek(file, static_cast<off_t>(offset), SEEK_DATA);
  if (data >= 0) return std::min(static_cast<std::uint64_t>(data), end);
  return errno == ENXIO ? end : offset;  // without that knowledge all of it is data
}

std::uint64_t find_hole(int file, std::uint64_t offset, std::uint64_t end) noexcept {
  const off_t hole = ::lseek(file, static_cast<off_t>(offset), SEEK_HOLE);
  return hole > static_cast<off_t>(offset) ? std::min(static_cast<std::uint64_t>(hole), end) : end;
}

struct Extent {
  std::uint64_t begin;
  std::uint64_t end;
};

/// What the file has of [begin, end) but for its holes. The last byte always counts as data: it is read to see that it
/// is there.
std::vector<Extent> data_of(int file, std::uint64_t begin, std::uint64_t end) {
  std::vector<Extent> extents;
  for (std::uint64_t hole = begin; hole < end;) {
    const std::uint64_t data = std::min(find_data(file, hole, end), end - 1);
    hole = find_hole(file, data, end);
    extents.push_back({data, hole});
  }
  return extents;
}

/// Linkers align parts of a kernel to huge pages, so that some hold next to nothing but filler.
void back_filler_by_small_pages(const GuestMemory& memory, const Segment& segment, std::span<const Extent> extents) {
  constexpr std::uint64_t huge = GuestMemory::huge_page_size;
  const std::uint64_t shift = raw(segment.address) - segment.file_offset;
  const std::uint64_t end = raw(segment.address) + segment.file_size;
  for (std::uint64_t page = (raw(segment.address) + huge - 1) / huge * huge; page + huge <= end; page += huge) {
    std::uint64_t used = 0;
    for (const Extent& extent : extents) {
      const std::uint64_t first = std::max(extent.begin + shift, page);
      const std::uint64_t last = std::min(extent.end + shift, page + huge);
      if (first < last) used += last - first;
    }
    if (used > huge / filler_share) continue;
    if (const auto bytes = memory.slice(Gpa{page}, huge)) GuestMemory::prefer_small_pages(bytes->data());
  }
}

/// But for the file's holes: guest memory is zero as it is.
void copy_segment(const GuestMemory& memory, const Kernel::Image& image, const Segment& segment) {
  const auto extents = data_of(image.file.get(), segment.file_offset, segment.file_offset + segment.file_size);
  back_filler_by_small_pages(memory, segment, extents);
  for (const auto& [begin, end] : extents) {
    copy(memory, image, segment.address + (begin - segment.file_offset), begin, end - begin);
  }
}

void map_segment(GuestMemory& memory, const Kernel::Image& image, const Segment& segment) {
  const std::uint64_t start = raw(segment.address);
  const std::uint64_t end = start + segment.file_size;
  const std::uint64_t first_page = page_ceiling(start);
  const std::uint64_t last_page = page_floor(end);
  const bool congruent = (start & page_mask) == (segment.file_offset & page_mask);
  if (!congruent || last_page <= first_page) {
    if (segment.file_size > 0) copy(memory, image, segment.address, segment.file_offset, segment.file_size);
    return;
  }
  // Pages that the segment fills only in part are copied, so that nothing of the file beyond it shows.
  const auto offset_of = [&](std::uint64_t address) { return segment.file_offset + (address - start); };
  memory.map_private(Gpa{first_page}, image.file.get(), offset_of(first_page), last_page - first_page);
  if (first_page > start) copy(memory, image, segment.address, segment.file_offset, first_page - start);
  if (end > last_page) copy(memory, image, Gpa{last_page}, offset_of(last_page), end - last_page);
}

}  // namespace

void place_kernel(GuestMemory& memory, const Kernel::Image& image) {
  const std::uint64_t low_ram = memory.regions()[0].size;
  if (image.end > low_ram) {
    const bool hole = low_ram < memory.size();
    throw std::runtime_error(fmt::format("kernel {}: needs {} MiB, the guest has {} MiB{}", image.path,
                                         mebibytes(image.end), low_ram >> 20, hole ? " below the device hole" : ""));
  }
  std::uint64_t size = 0;
  for (const Segment& segment : image.segments) size += segment.file_size;
  for (const Segment& segment : image.segments) {
    if (size <= copied_kernel_limit) {
      copy_segment(memory, image, segment);
    } else {
      map_segment(memory, image, segment);
    }
  }
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

#include "base/guest_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <stdexcept>

#include "base/fd.h"

namespace minivm {
namespace {

constexpr std::uint64_t huge_page_size = GuestMemory::huge_page_size;

/// A lazily backed mapping that begins at a huge page: only where host and guest addresses agree modulo its size can
/// KVM map 2 MiB at once instead of taking 512 faults.
std::byte* map_aligned(std::uint64_t size) {
  const std::uint64_t reserved = size + huge_page_size;
  void* mapped = ::mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw_errno(fmt::format("guest memory: mmap of {} MiB", size >> 20));
  auto* const start = static_cast<std::byte*>(mapped);
  const std::uint64_t skipped = -reinterpret_cast<std::uintptr_t>(mapped) % huge_page_size;
  if (skipped > 0) ::munmap(start, skipped);
  ::munmap(start + skipped + size, huge_page_size - skipped);
  return start + skipped;
}

}  // namespace

GuestMemory::GuestMemory(std::uint64_t size) : size_(size), base_(nullptr) {
  if (size == 0 || size % page_size != 0) {
    throw std::invalid_argument(
        fmt::format("guest memory: {} bytes is not a positive multiple of {}", size, page_size));
  }
  base_ = map_aligned(size);
  // Only a wish: a host without huge pages backs the guest with small ones.
  ::madvise(base_, size, MADV_HUGEPAGE);
  const std::uint64_t low = std::min(size, hole_start);
  regions_[0] = {Gpa{0}, low, base_};
  if (size > low) {
    regions_[1] = {Gpa{hole_end}, size - low, base_ + low};
    region_count_ = 2;
  }
}

GuestMemory::~GuestMemory() { ::munmap(base_, size_); }

bool GuestMemory::write_bytes(Gpa gpa, std::span<const std::byte> bytes) const noexcept {
  const auto to = slice(gpa, bytes.size());
  if (!to) return false;
  std::ranges::copy(bytes, to->begin());
  return true;
}

void GuestMemory::prefer_small_pages(std::byte* host) noexcept {
  std::byte* const start = host - reinterpret_cast<std::uintptr_t>(host) % huge_page_size;
  ::madvise(start, huge_page_size, MADV_NOHUGEPAGE);
  // That leaves one that is there as it is. Of a part, advice about its use makes Linux split the whole at once; else
  // what is taken from it would only be free when the host runs short of memory.
  ::madvise(start, page_size, MADV_COLD);
}

void GuestMemory::map_private(Gpa gpa, int fd, std::uint64_t file_offset, std::uint64_t size) {
  const auto to = slice(gpa, size);
  if (!to || (raw(gpa) | file_offset | size) % page_size != 0) {
    throw std::invalid_argument(fmt::format("guest memory: cannot map {} bytes at {:#x}", size, raw(gpa)));
  }
  void* mapped = ::mmap(to->data(), size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
                        static_cast<off_t>(file_offset));
  if (mapped == MAP_FAILED) throw_errno(fmt::format("guest memory: file mapping of {} KiB", size >> 10));
  files_begin_ = files_begin_ == nullptr ? to->data() : std::min<const std::byte*>(files_begin_, to->data());
  files_end_ = std::max<const std::byte*>(files_end_, to->data() + size);
}

}  // namespace minivm

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

namespace minivm {

/// A guest physical address. It never mixes with host addresses (HVA); arithmetic goes through `+` alone.
enum class Gpa : std::uint64_t {};

constexpr std::uint64_t raw(Gpa gpa) noexcept { return static_cast<std::uint64_t>(gpa); }
constexpr Gpa operator+(Gpa gpa, std::uint64_t offset) noexcept { return Gpa{raw(gpa) + offset}; }

/// RAM of the guest: one anonymous, lazily backed mapping, seen by the guest as one region below the 32-bit device
/// hole and, when it does not fit there, a second one from 4 GiB on. The only place that turns a GPA into an HVA.
/// Fixed after construction, so any thread may use it; what is in it belongs to whoever the guest gave it to.
class GuestMemory {
 public:
  /// RAM ends here at the latest and goes on at 4 GiB: in between live MMIO devices, IOAPIC and local APICs.
  static constexpr std::uint64_t hole_start = 0xC000'0000;
  static constexpr std::uint64_t hole_end = 0x1'0000'0000;
  static constexpr std::uint64_t page_size = 4096;
  static constexpr std::uint64_t huge_page_size = 2U << 20;

  struct Region {
    Gpa start{};
    std::uint64_t size = 0;
    std::byte* host = nullptr;
  };

  /// `size` is in bytes, a multiple of the page size. Throws std::system_error when the host refuses the mapping.
  explicit GuestMemory(std::uint64_t size);
  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  std::uint64_t size() const noexcept { return size_; }
  std::span<const Region> regions() const noexcept { return {regions_.data(), region_count_}; }

  /// The host memory behind [gpa, gpa + size): nothing unless the whole of it lies in one region. Zero bytes are
  /// found wherever a byte would be.
  std::optional<std::span<std::byte>> slice(Gpa gpa, std::uint64_t size) const noexcept {
    for (const Region& region : regions()) {
      const std::uint64_t offset = raw(gpa) - raw(region.start);
      if (offset < region.size && size <= region.size - offset) {
        return std::span(region.host + offset, size);
      }
    }
    return std::nullopt;
  }

  /// Copies a value out of the guest: judge the copy, since the guest can change the original at any time.
  template <typename T>
  requires std::is_trivially_copyable_v<T> std::optional<T> read(Gpa gpa)
  const noexcept {
    const auto from = slice(gpa, sizeof(T));
    if (!from) return std::nullopt;
    T value;
    std::memcpy(&value, from->data(), sizeof value);
    return value;
  }

  /// Copies `value` into the guest; false when it does not fit into RAM there.
  template <typename T>
  requires std::is_trivially_copyable_v<T>
  bool write(Gpa gpa, const T& value) const noexcept {
    const auto to = slice(gpa, sizeof(T));
    if (!to) return false;
    std::memcpy(to->data(), &value, sizeof value);
    return true;
  }

  /// Copies `bytes` into the guest; false when they do not fit into RAM there.
  bool write_bytes(Gpa gpa, std::span<const std::byte> bytes) const noexcept;

  /// From now on the host backs the huge page around `host` by small ones, each when it is touched: for where the guest
  /// uses little of it. One that is there already becomes small ones. Only a wish, as huge pages are.
  static void prefer_small_pages(std::byte* host) noexcept;

  /// Replaces whole pages at `gpa` by a private, copy-on-write mapping of the file. All three numbers are multiples
  /// of the page size. For use before the guest runs; throws when the range is not RAM or the host refuses.
  void map_private(Gpa gpa, int fd, std::uint64_t file_offset, std::uint64_t size);
  /// Whether a page of `bytes` may be one of a file: given to the host, it comes back as the file has it, not as zeros.
  bool may_map_file(std::span<const std::byte> bytes) const noexcept {
    return bytes.data() < files_end_ && files_begin_ < bytes.data() + bytes.size();
  }

 private:
  std::uint64_t size_;
  std::byte* base_;
  std::array<Region, 2> regions_{};
  std::size_t region_count_ = 1;
  const std::byte* files_begin_ = nullptr;  // around all that map_private mapped
  const std::byte* files_end_ = nullptr;
};

}  // namespace minivm

#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace minivm::boot {

/// How a bzImage's payload may be packed (the kernel's CONFIG_KERNEL_GZIP and so on).
enum class Compression : std::uint8_t { gzip, bzip2, lzma, xz, lzo, lz4, zstd };

std::string_view name(Compression compression) noexcept;

/// Tells the compression by its magic number (boot.rst, 1.3, payload_offset); nothing when it is none of these.
std::optional<Compression> recognise_compression(std::span<const std::byte> head) noexcept;

/// Memory that is not filled before it is written: a kernel is too large for that.
struct Unpacked {
  std::unique_ptr<std::byte[]> data;
  std::size_t size = 0;

  std::span<std::byte> bytes() const noexcept { return {data.get(), size}; }
};

/// The most that a payload may unpack to.
inline constexpr std::uint32_t unpacked_limit = 1U << 30;

/// Unpacks a whole payload, whose last four bytes say how long the result is: gzip's own trailer, and what the kernel's
/// build appends to all others. Never writes more than that, nor more than `unpacked_limit`. The error says what is
/// wrong: "corrupt lz4 payload: ...".
std::expected<Unpacked, std::string> unpack(Compression compression, std::span<const std::byte> payload);

/// Unpacks a whole file as the compression's own tool writes it. The number of bytes put into `to`; nothing when the
/// input is damaged or holds more than that.
std::optional<std::size_t> unpack_into(Compression compression, std::span<const std::byte> from,
                                       std::span<std::byte> to);

/// An lzop file's blocks (the container of CONFIG_KERNEL_LZO). The number of bytes put into `to`; nothing when the
/// input is damaged or holds more than that. Checksums are not looked at.
std::optional<std::size_t> unpack_lzop(std::span<const std::byte> from, std::span<std::byte> to) noexcept;

}  // namespace minivm::boot

#include "boot/unpack.h"

#include <bzlib.h>
#include <fmt/format.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <array>
#include <cstring>

namespace minivm::boot {
namespace {

using Input = std::span<const std::byte>;
using Output = std::span<std::byte>;
// Bytes put into the output; nothing when the input is damaged or the output too small.
using Result = std::optional<std::size_t>;

template <typename T>
T* as(std::byte* bytes) noexcept {
  return reinterpret_cast<T*>(bytes);
}
template <typename T>
const T* as(const std::byte* bytes) noexcept {
  return reinterpret_cast<const T*>(bytes);
}

Result unpack_gzip(Input from, Output to) {
  static constexpr int gzip_header_only = 16;
  z_stream stream{};
  if (::inflateInit2(&stream, MAX_WBITS + gzip_header_only) != Z_OK) return std::nullopt;
  stream.next_in = const_cast<Bytef*>(as<Bytef>(from.data()));
  stream.avail_in = static_cast<uInt>(from.size());
  stream.next_out = as<Bytef>(to.data());
  stream.avail_out = static_cast<uInt>(to.size());
  const int status = ::inflate(&stream, Z_FINISH);
  const std::size_t written = stream.total_out;
  ::inflateEnd(&stream);
  if (status != Z_STREAM_END) return std::nullopt;
  return written;
}

Result unpack_bzip2(Input from, Output to) {
  auto size = static_cast<unsigned>(to.size());
  const int status = ::BZ2_bzBuffToBuffDecompress(as<char>(to.data()), &size, const_cast<char*>(as<char>(from.data())),
                                                  static_cast<unsigned>(from.size()), 0, 0);
  if (status != BZ_OK) return std::nullopt;
  return size;
}

// Both of liblzma's formats. The dictionary's size comes from the file, so it is bounded as well.
Result unpack_lzma(Input from, Output to, Compression format) {
  static constexpr std::uint64_t memory_limit = 1ULL << 28;
  lzma_stream stream = LZMA_STREAM_INIT;
  const lzma_ret ready = format == Compression::xz ? ::lzma_stream_decoder(&stream, memory_limit, 0)
                                                   : ::lzma_alone_decoder(&stream, memory_limit);
  if (ready != LZMA_OK) return std::nullopt;
  stream.next_in = as<std::uint8_t>(from.data());
  stream.avail_in = from.size();
  stream.next_out = as<std::uint8_t>(to.data());
  stream.avail_out = to.size();
  const lzma_ret status = ::lzma_code(&stream, LZMA_FINISH);
  const std::size_t written = stream.total_out;
  ::lzma_end(&stream);
  if (status != LZMA_STREAM_END) return std::nullopt;
  return written;
}

// The legacy frame of the lz4 tool: the magic number, then blocks, each after its packed size (lz4_Frame_format.md,
// "Legacy frame").
Result unpack_lz4(Input from, Output to) noexcept {
  static constexpr std::uint32_t magic = 0x184C'2102;
  std::size_t written = 0;
  while (from.size() >= sizeof(std::uint32_t)) {
    std::uint32_t packed;
    std::memcpy(&packed, from.data(), sizeof packed);
    from = from.subspan(sizeof packed);
    if (packed == magic) continue;
    if (packed > from.size()) return std::nullopt;
    const int count = ::LZ4_decompress_safe(as<char>(from.data()), as<char>(to.data() + written),
                                            static_cast<int>(packed), static_cast<int>(to.size() - written));
    if (count < 0) return std::nullopt;
    written += static_cast<std::size_t>(count);
    from = from.subspan(packed);
  }
  return from.empty() ? Result(written) : std::nullopt;
}

Result unpack_zstd(Input from, Output to) {
  const std::size_t size = ::ZSTD_decompress(to.data(), to.size(), from.data(), from.size());
  if (::ZSTD_isError(size) != 0) return std::nullopt;
  return size;
}

}  // namespace

std::string_view name(Compression compression) noexcept {
  static constexpr std::array<std::string_view, 7> names{"gzip", "bzip2", "lzma", "xz", "lzo", "lz4", "zstd"};
  return names[static_cast<std::size_t>(compression)];
}

std::optional<Compression> recognise_compression(std::span<const std::byte> head) noexcept {
  struct Magic {
    std::uint8_t first;
    std::uint8_t second;
    Compression compression;
  };
  static constexpr std::array<Magic, 7> magics{{{0x1F, 0x8B, Compression::gzip},
                                                {0x42, 0x5A, Compression::bzip2},
                                                {0x5D, 0x00, Compression::lzma},
                                                {0xFD, 0x37, Compression::xz},
                                                {0x89, 0x4C, Compression::lzo},
                                                {0x02, 0x21, Compression::lz4},
                                                {0x28, 0xB5, Compression::zstd}}};
  if (head.size() < 2) return std::nullopt;
  for (const Magic& magic : magics) {
    if (head[0] == std::byte{magic.first} && head[1] == std::byte{magic.second}) return magic.compression;
  }
  return std::nullopt;
}

std::optional<std::size_t> unpack_into(Compression compression, std::span<const std::byte> from,
                                       std::span<std::byte> to) {
  switch (compression) {
    case Compression::gzip:
      return unpack_gzip(from, to);
    case Compression::bzip2:
      return unpack_bzip2(from, to);
    case Compression::lzma:
    case Compression::xz:
      return unpack_lzma(from, to, compression);
    case Compression::lzo:
      return unpack_lzop(from, to);
    case Compression::lz4:
      return unpack_lz4(from, to);
    case Compression::zstd:
      return unpack_zstd(from, to);
  }
  return std::nullopt;
}

std::expected<Unpacked, std::string> unpack(Compression compression, std::span<const std::byte> payload) {
  const auto corrupt = [&](std::string_view reason) {
    return std::unexpected(fmt::format("corrupt {} payload: {}", name(compression), reason));
  };
  std::uint32_t size = 0;
  if (payload.size() < sizeof size || payload.size() > unpacked_limit) {
    return corrupt(fmt::format("{} bytes long", payload.size()));
  }
  std::memcpy(&size, payload.data() + payload.size() - sizeof size, sizeof size);
  if (size == 0 || size > unpacked_limit) return corrupt(fmt::format("says that it unpacks to {} bytes", size));

  if (compression != Compression::gzip) payload = payload.first(payload.size() - sizeof size);
  Unpacked unpacked{std::make_unique_for_overwrite<std::byte[]>(size), size};
  const Result written = unpack_into(compression, payload, unpacked.bytes());
  if (!written) return corrupt(fmt::format("does not unpack to its {} bytes", size));
  if (*written != size) return corrupt(fmt::format("unpacks to {} bytes, not {}", *written, size));
  return unpacked;
}

}  // namespace minivm::boot

#include <lzo/lzo1x.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "boot/unpack.h"

namespace minivm::boot {
namespace {

// Flags of the file header that decide what else is there (lzop, conf.h).
constexpr std::uint32_t adler32_unpacked = 0x1;
constexpr std::uint32_t adler32_packed = 0x2;
constexpr std::uint32_t extra_field = 0x40;
constexpr std::uint32_t crc32_unpacked = 0x100;
constexpr std::uint32_t crc32_packed = 0x200;
constexpr std::uint32_t filtered = 0x800;
// Files of older versions lack the level, the version needed and half of the time stamp.
constexpr std::uint16_t full_header_version = 0x940;
constexpr std::size_t magic_size = 9;

// Big-endian numbers off the front of a span. Past the end all are zero and `good` is false.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  template <typename T>
  T number() noexcept {
    T value{};
    const auto from = take(sizeof value);
    if (!good_) return 0;
    std::memcpy(&value, from.data(), sizeof value);
    if constexpr (sizeof value == 1) return value;
    return std::byteswap(value);
  }
  std::span<const std::byte> take(std::size_t size) noexcept {
    good_ = good_ && size <= bytes_.size();
    if (!good_) return {};
    const auto taken = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return taken;
  }
  bool good() const noexcept { return good_; }

 private:
  std::span<const std::byte> bytes_;
  bool good_ = true;
};

// The header's flags, with the reader left at the first block.
std::uint32_t skip_header(Reader& reader) noexcept {
  reader.take(magic_size);
  const bool full = reader.number<std::uint16_t>() >= full_header_version;
  reader.take(full ? 2 + 2 : 2);  // library version, version needed
  reader.take(full ? 1 + 1 : 1);  // method, level
  const auto flags = reader.number<std::uint32_t>();
  if ((flags & filtered) != 0) reader.take(4);
  reader.take(full ? 4 + 8 : 4 + 4);  // mode, time stamp
  reader.take(reader.number<std::uint8_t>());
  reader.take(4);  // header checksum
  if ((flags & extra_field) != 0) {
    reader.take(reader.number<std::uint32_t>());
    reader.take(4);
  }
  return flags;
}

std::size_t checksum_bytes(std::uint32_t flags, std::uint32_t first, std::uint32_t second) noexcept {
  return ((flags & first) != 0 ? 4U : 0U) + ((flags & second) != 0 ? 4U : 0U);
}

}  // namespace

std::optional<std::size_t> unpack_lzop(std::span<const std::byte> from, std::span<std::byte> to) noexcept {
  Reader reader(from);
  const std::uint32_t flags = skip_header(reader);
  std::size_t written = 0;
  while (const auto unpacked = reader.number<std::uint32_t>()) {
    const auto packed = reader.number<std::uint32_t>();
    reader.take(checksum_bytes(flags, adler32_unpacked, crc32_unpacked));
    // A block that would not shrink is stored, without a second checksum.
    if (packed < unpacked) reader.take(checksum_bytes(flags, adler32_packed, crc32_packed));
    const auto block = reader.take(packed);
    if (!reader.good() || packed > unpacked || unpacked > to.size() - written) return std::nullopt;

    const auto target = to.subspan(written, unpacked);
    if (packed == unpacked) {
      std::ranges::copy(block, target.begin());
    } else {
      lzo_uint size = unpacked;
      const int status = ::lzo1x_decompress_safe(reinterpret_cast<const lzo_byte*>(block.data()), packed,
                                                 reinterpret_cast<lzo_byte*>(target.data()), &size, nullptr);
      if (status != LZO_E_OK || size != unpacked) return std::nullopt;
    }
    written += unpacked;
  }
  return reader.good() ? std::optional(written) : std::nullopt;
}

}  // namespace minivm::boot

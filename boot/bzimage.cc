#include "boot/bzimage.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "base/guest_memory.h"
#include "boot/layout.h"
#include "boot/read_at.h"

namespace minivm::boot {
namespace {

// boot.rst, 1.3.
constexpr std::size_t header_offset = 0x1F1;
constexpr std::uint16_t boot_flag = 0xAA55;
constexpr std::uint32_t header_magic = 0x5372'6448;  // "HdrS"
constexpr std::uint64_t sector_size = 512;
constexpr std::uint8_t default_setup_sectors = 4;     // what 0 means
constexpr std::uint16_t protocol_2_12 = 0x020C;       // the first one with xloadflags
constexpr std::uint64_t kernel_version_base = 0x200;  // what the header's kernel_version is counted from
constexpr std::uint64_t syssize_unit = 16;

std::string check_kind(const setup_header& header) {
  if (header.version < protocol_2_12) {
    return fmt::format("no 64-bit entry: boot protocol {}.{:02}, 2.12 is needed", header.version >> 8,
                       header.version & 0xFF);
  }
  if ((header.xloadflags & XLF_KERNEL_64) == 0) return "no 64-bit entry: a 32-bit kernel (XLF_KERNEL_64 is not set)";
  if ((header.loadflags & LOADED_HIGH) == 0) return "a zImage, which loads below 1 MiB (LOADED_HIGH is not set)";
  if (header.pref_address < raw(layout::high_memory) || header.pref_address >= GuestMemory::hole_start ||
      header.pref_address % GuestMemory::page_size != 0) {
    return fmt::format("bad setup header: preferred address {:#x}", header.pref_address);
  }
  if (header.init_size == 0) return "bad setup header: init_size is 0";
  return {};
}

std::string check_extent(const BzImage& image, std::uint64_t size) {
  // The unit is 16 bytes, so the last of them need not be whole.
  const std::uint64_t code_size = std::uint64_t{image.header.syssize} * syssize_unit;
  if (image.code_offset >= size || code_size >= size - image.code_offset + syssize_unit) {
    return fmt::format("truncated: {} bytes expected, the file has {}", image.code_offset + code_size, size);
  }
  if (image.payload_size == 0 || image.payload_offset > size || image.payload_size > size - image.payload_offset) {
    return fmt::format("truncated: the payload ends at byte {}, the file at {}",
                       image.payload_offset + image.payload_size, size);
  }
  if (image.header.init_size < image.code_size) {
    return fmt::format("bad setup header: init_size {} is less than the {} bytes of code", image.header.init_size,
                       image.code_size);
  }
  return {};
}

// The release is the first word of a NUL-terminated line within the setup sectors.
std::string read_release(int fd, const BzImage& image) {
  std::array<char, 128> text{};
  const std::uint64_t offset = kernel_version_base + image.header.kernel_version;
  if (image.header.kernel_version == 0 || offset >= image.code_offset) return {};
  const std::uint64_t size = std::min<std::uint64_t>(text.size(), image.code_offset - offset);
  if (!read_at(fd, offset, std::as_writable_bytes(std::span(text).first(size)))) return {};
  const std::string_view line(text.data(), ::strnlen(text.data(), size));
  return std::string(line.substr(0, line.find(' ')));
}

}  // namespace

bool is_bzimage(std::span<const std::byte> head) noexcept {
  if (head.size() < header_offset + offsetof(setup_header, version)) return false;
  setup_header header{};
  std::memcpy(&header, head.data() + header_offset, std::min(sizeof header, head.size() - header_offset));
  return header.boot_flag == boot_flag && header.header == header_magic;
}

std::expected<BzImage, std::string> read_bzimage(int fd, std::uint64_t size) {
  BzImage image;
  if (!read_at(fd, header_offset, image.header)) return std::unexpected("truncated: no whole setup header");
  // boot.rst, 1.3: the header ends where its own jump instruction leads; what follows is code, not fields.
  const std::size_t used = offsetof(setup_header, header) + (image.header.jump >> 8);
  if (used < sizeof image.header) {
    std::memset(reinterpret_cast<std::byte*>(&image.header) + used, 0, sizeof image.header - used);
  }
  if (auto reason = check_kind(image.header); !reason.empty()) return std::unexpected(std::move(reason));

  const unsigned sectors = image.header.setup_sects == 0 ? default_setup_sectors : image.header.setup_sects;
  image.code_offset = (std::uint64_t{sectors} + 1) * sector_size;
  image.code_size = size > image.code_offset ? size - image.code_offset : 0;
  image.payload_offset = image.code_offset + image.header.payload_offset;
  image.payload_size = image.header.payload_length;
  if (auto reason = check_extent(image, size); !reason.empty()) return std::unexpected(std::move(reason));
  image.release = read_release(fd, image);
  return image;
}

}  // namespace minivm::boot

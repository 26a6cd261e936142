#include "devices/virtio/disk_image.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <stdexcept>
#include <string_view>

#include "devices/virtio/spec.h"

namespace minivm::virtio {
namespace {

using namespace std::string_view_literals;

// What a file that is no raw disk begins with.
struct Format {
  std::size_t offset;
  std::string_view magic;
  std::string_view name;
  std::string_view remedy;
};
constexpr std::string_view convert = "qemu-img convert -O raw";
constexpr std::array formats{
    Format{0, "QFI\xFB"sv, "qcow2 image", convert},
    Format{0, "KDMV"sv, "VMDK image", convert},
    Format{0, "# Disk DescriptorFile"sv, "VMDK image", convert},
    Format{0, "vhdxfile"sv, "VHDX image", convert},
    Format{0, "conectix"sv, "VHD image", convert},
    Format{0x40, "\x7F\x10\xDA\xBE"sv, "VDI image", convert},
    Format{0, "\x1F\x8B\x08"sv, "gzip file", "gunzip"},
    Format{0, "\x28\xB5\x2F\xFD"sv, "zstd file", "unzstd"},
    Format{0, "\xFD\x37zXZ\0"sv, "xz file", "unxz"},
    Format{0, "BZh"sv, "bzip2 file", "bunzip2"},
    Format{257, "ustar"sv, "tar archive", "unpack it into a file system image"},
};

[[noreturn]] void refuse(const std::string& path, std::string_view reason) {
  throw std::runtime_error(fmt::format("disk {}: {}", path, reason));
}

void refuse_foreign_format(const std::string& path, int fd) {
  std::array<char, 512> bytes{};
  const ssize_t count = ::pread(fd, bytes.data(), bytes.size(), 0);
  if (count < 0) throw_errno(fmt::format("disk {}", path));
  const std::string_view start(bytes.data(), static_cast<std::size_t>(count));
  for (const Format& format : formats) {
    if (start.size() < format.offset || !start.substr(format.offset).starts_with(format.magic)) continue;
    refuse(path, fmt::format("is a {}; minivm takes raw images: {}", format.name, format.remedy));
  }
}

std::uint64_t size_of(const std::string& path, int fd, bool& block_device) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) throw_errno(fmt::format("disk {}", path));
  if (S_ISDIR(info.st_mode)) refuse(path, "is a directory");
  block_device = S_ISBLK(info.st_mode);
  if (S_ISREG(info.st_mode)) return static_cast<std::uint64_t>(info.st_size);
  if (!block_device) refuse(path, "is neither a regular file nor a block device");
  std::uint64_t size = 0;
  if (::ioctl(fd, BLKGETSIZE64, &size) != 0) throw_errno(fmt::format("disk {}: size", path));
  return size;
}

bool plausible_block(std::uint64_t size) noexcept {
  return std::has_single_bit(size) && size >= blk::sector_size && size <= std::uint64_t{1} << 16;
}

// A file keeps logical blocks of 512 bytes, which partition tables in it count in, on physical ones of its file system.
BlockSizes block_sizes(const DiskImage& image) noexcept {
  BlockSizes sizes;
  if (!image.block_device) {
    struct stat info {};
    if (::fstat(image.file.get(), &info) == 0 && plausible_block(static_cast<std::uint64_t>(info.st_blksize))) {
      sizes.physical = static_cast<std::uint32_t>(info.st_blksize);
    }
    return sizes;
  }
  int logical = 0;
  unsigned physical = 0;
  unsigned optimal = 0;
  const int fd = image.file.get();
  if (::ioctl(fd, BLKSSZGET, &logical) != 0 || !plausible_block(static_cast<std::uint64_t>(logical))) return sizes;
  sizes.logical = sizes.physical = static_cast<std::uint32_t>(logical);
  if (::ioctl(fd, BLKPBSZGET, &physical) == 0 && plausible_block(physical) && physical > sizes.logical) {
    sizes.physical = physical;
  }
  if (::ioctl(fd, BLKIOOPT, &optimal) == 0 && optimal % sizes.logical == 0) sizes.optimal = optimal;
  return sizes;
}

void open_past_cache(DiskImage& image) {
  // By the open file, not by the path: the path may mean another file by now.
  const std::string same = fmt::format("/proc/self/fd/{}", image.file.get());
  const int flags = (image.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_DIRECT;
  image.direct.reset(::open(same.c_str(), flags));
  if (!image.direct) throw_errno(fmt::format("disk {}: direct", image.path));
  image.direct_alignment = image.direct_memory_alignment = image.block_device ? image.blocks.logical : 4096;
  struct statx info {};
  // Linux 6.1 and later know better.
  if (::statx(image.direct.get(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
      (info.stx_mask & STATX_DIOALIGN) != 0 && info.stx_dio_offset_align != 0) {
    image.direct_alignment = info.stx_dio_offset_align;
    image.direct_memory_alignment = info.stx_dio_mem_align;
  }
}

void lock(const std::string& path, int fd, bool read_only) {
  struct flock lock {};
  lock.l_type = read_only ? F_RDLCK : F_WRLCK;
  lock.l_whence = SEEK_SET;  // the whole file, however long it becomes
  if (::fcntl(fd, F_OFD_SETLK, &lock) == 0) return;
  if (errno == EAGAIN || errno == EACCES) refuse(path, "locked by another VM");
  throw_errno(fmt::format("disk {}: lock", path));
}

}  // namespace

DiskImage open_image(const std::string& path, bool read_only, HostCache cache) {
  // O_NONBLOCK: a FIFO is to be refused, not waited for.
  const int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  DiskImage image{.path = path, .file = UniqueFd(::open(path.c_str(), flags)), .read_only = read_only};
  if (!image.file) {
    if (errno == EISDIR) refuse(path, "is a directory");
    throw_errno(fmt::format("disk {}", path));
  }
  image.size = size_of(path, image.file.get(), image.block_device);
  if (image.size == 0) refuse(path, "is empty");
  refuse_foreign_format(path, image.file.get());
  if (image.size % blk::sector_size != 0) {
    refuse(path, fmt::format("size {} is not a multiple of {}", image.size, blk::sector_size));
  }
  lock(path, image.file.get(), read_only);
  // To io_uring it would mean "fail rather than wait".
  if (::fcntl(image.file.get(), F_SETFL, 0) != 0) throw_errno(fmt::format("disk {}", path));
  image.blocks = block_sizes(image);
  if (cache == HostCache::bypassed) open_past_cache(image);
  return image;
}

std::uint64_t current_size(const DiskImage& image) noexcept {
  std::uint64_t size = image.size;
  if (image.block_device) {
    ::ioctl(image.file.get(), BLKGETSIZE64, &size);
  } else {
    struct stat info {};
    if (::fstat(image.file.get(), &info) == 0) size = static_cast<std::uint64_t>(info.st_size);
  }
  return size / blk::sector_size * blk::sector_size;
}

}  // namespace minivm::virtio

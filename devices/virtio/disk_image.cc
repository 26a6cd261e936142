#include "devices/virtio/disk_image.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
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

std::uint64_t size_of(const std::string& path, int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) throw_errno(fmt::format("disk {}", path));
  if (S_ISDIR(info.st_mode)) refuse(path, "is a directory");
  if (S_ISREG(info.st_mode)) return static_cast<std::uint64_t>(info.st_size);
  if (!S_ISBLK(info.st_mode)) refuse(path, "is neither a regular file nor a block device");
  std::uint64_t size = 0;
  if (::ioctl(fd, BLKGETSIZE64, &size) != 0) throw_errno(fmt::format("disk {}: size", path));
  return size;
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

DiskImage open_image(const std::string& path, bool read_only) {
  // O_NONBLOCK: a FIFO is to be refused, not waited for. It means nothing to files and block devices.
  const int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  UniqueFd file(::open(path.c_str(), flags));
  if (!file) {
    if (errno == EISDIR) refuse(path, "is a directory");
    throw_errno(fmt::format("disk {}", path));
  }
  const std::uint64_t size = size_of(path, file.get());
  if (size == 0) refuse(path, "is empty");
  refuse_foreign_format(path, file.get());
  if (size % blk::sector_size != 0) {
    refuse(path, fmt::format("size {} is not a multiple of {}", size, blk::sector_size));
  }
  lock(path, file.get(), read_only);
  return {path, std::move(file), size, read_only};
}

}  // namespace minivm::virtio

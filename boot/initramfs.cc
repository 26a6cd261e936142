#include "boot/initramfs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "base/fd.h"

namespace minivm::boot {
namespace {

constexpr std::string_view trailer = "TRAILER!!!";
constexpr std::size_t header_size = 110;  // the magic, then 13 numbers of eight hexadecimal digits
constexpr std::size_t max_path = 4095;    // PATH_MAX counts the terminator; the kernel skips what is longer
constexpr std::uint32_t permission_bits = 07777;

constexpr std::uint64_t align(std::uint64_t offset) { return (offset + 3) & ~std::uint64_t{3}; }

/// Header, name and its terminator, up to where the content starts.
constexpr std::uint64_t head_size(std::string_view path) { return align(header_size + path.size() + 1); }

void check_path(std::string_view path) {
  const auto refuse = [&](std::string_view reason) {
    throw std::runtime_error(fmt::format("initramfs: path \"{}\" {}", path, reason));
  };
  if (path.size() > max_path) refuse(fmt::format("has {} bytes, more than {}", path.size(), max_path));
  if (path.find('\0') != path.npos) refuse("contains a zero byte");
  if (path == trailer) refuse("is the archive's end mark");
  for (std::string_view rest = path;;) {
    const std::size_t slash = rest.find('/');
    const std::string_view component = rest.substr(0, slash);
    if (component.empty()) refuse("has an empty component");
    if (component == "." || component == "..") refuse("is not plain: it contains . or ..");
    if (slash == rest.npos) return;
    rest.remove_prefix(slash + 1);
  }
}

std::uint64_t regular_size(int fd, const std::string& path) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) throw_errno(fmt::format("stat {}", path));
  if (!S_ISREG(status.st_mode)) throw std::runtime_error(fmt::format("initramfs: {} is not a regular file", path));
  return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace

/// Writes the archive from one end of the destination to the other.
class Initramfs::Output {
 public:
  explicit Output(std::span<std::byte> to) noexcept : to_(to) {}

  void entry(const Entry& entry) {
    header(entry, ++inode_);
    if (const auto* file = std::get_if<HostFile>(&entry.content)) {
      host_file(*file);
    } else if (const auto* owned = std::get_if<std::vector<std::byte>>(&entry.content)) {
      bytes(*owned);
    } else {
      bytes(std::get<std::span<const std::byte>>(entry.content));
    }
  }

  void end() { header({.path = std::string(trailer)}, 0); }

  void archive(const HostFile& file) {
    pad();
    host_file(file);
  }

 private:
  void header(const Entry& entry, std::uint32_t inode) {
    pad();
    const std::uint32_t links = S_ISDIR(entry.mode) ? 2 : 1;
    // In this order: magic, inode, mode, uid, gid, links, mtime, size, the file system's device, the file's own, bytes
    // of the name, checksum.
    const auto text = fmt::format(
        "070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}", inode, entry.mode, 0, 0,
        links, 0, content_size(entry.content), 0, 0, entry.major, entry.minor, entry.path.size() + 1, 0);
    bytes(std::as_bytes(std::span(text)));
    bytes(std::as_bytes(std::span(entry.path.c_str(), entry.path.size() + 1)));
    pad();
  }

  void bytes(std::span<const std::byte> from) {
    if (!from.empty()) std::memcpy(to_.subspan(used_, from.size()).data(), from.data(), from.size());
    used_ += from.size();
  }

  void host_file(const HostFile& file) {
    const UniqueFd fd = open_file(file.path, O_RDONLY);
    const std::span<std::byte> part = to_.subspan(used_, file.size);
    std::uint64_t done = 0;
    while (done < part.size()) {
      const ssize_t count = ::read(fd.get(), part.data() + done, part.size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw_errno(fmt::format("read {}", file.path));
      if (count == 0) break;
      done += static_cast<std::uint64_t>(count);
    }
    const std::uint64_t size_now = regular_size(fd.get(), file.path);
    if (done != file.size || size_now != file.size) {
      throw std::runtime_error(
          fmt::format("initramfs: {} changed from {} to {} bytes while it was in use", file.path, file.size, size_now));
    }
    used_ += done;
  }

  // Guest memory may hold something else already, so padding is written too.
  void pad() {
    while (used_ != align(used_)) to_[used_++] = std::byte{0};
  }

  std::span<std::byte> to_;
  std::uint64_t used_ = 0;
  std::uint32_t inode_ = 0;
};

void Initramfs::add_directory(std::string_view path, std::uint32_t mode) {
  add({.path = std::string(path), .mode = S_IFDIR | (mode & permission_bits)});
}

void Initramfs::add_file(std::string_view path, std::uint32_t mode, std::vector<std::byte> content) {
  add({.path = std::string(path), .mode = S_IFREG | (mode & permission_bits), .content = std::move(content)});
}

void Initramfs::add_static_file(std::string_view path, std::uint32_t mode, std::span<const std::byte> content) {
  add({.path = std::string(path), .mode = S_IFREG | (mode & permission_bits), .content = content});
}

void Initramfs::add_host_file(std::string_view path, std::uint32_t mode, const std::string& host_path) {
  add({.path = std::string(path), .mode = S_IFREG | (mode & permission_bits), .content = stat_host_file(host_path)});
}

void Initramfs::add_symlink(std::string_view path, std::string_view target) {
  const auto bytes = std::as_bytes(std::span(target));
  add({.path = std::string(path), .mode = S_IFLNK | 0777, .content = std::vector(bytes.begin(), bytes.end())});
}

void Initramfs::add_device(std::string_view path, std::uint32_t mode, std::uint32_t major, std::uint32_t minor) {
  add({.path = std::string(path), .mode = S_IFCHR | (mode & permission_bits), .major = major, .minor = minor});
}

void Initramfs::append_archive(const std::string& host_path) { archives_.push_back(stat_host_file(host_path)); }

std::uint64_t Initramfs::size() const noexcept {
  std::uint64_t total = 0;
  for (const Entry& entry : entries_) total = align(total + head_size(entry.path) + content_size(entry.content));
  total += head_size(trailer);
  // Nothing follows the last archive: some decompressors take zeroes after their data for more of it.
  for (const HostFile& archive : archives_) total = align(total) + archive.size;
  return total;
}

void Initramfs::write(std::span<std::byte> to) const {
  if (to.size() != size()) {
    throw std::logic_error(fmt::format("initramfs: {} bytes of room for an archive of {}", to.size(), size()));
  }
  Output output(to);
  for (const Entry& entry : entries_) output.entry(entry);
  output.end();
  for (const HostFile& archive : archives_) output.archive(archive);
}

Initramfs::HostFile Initramfs::stat_host_file(const std::string& host_path) {
  // Opened, not only looked at: what cannot be read shall fail here.
  return {host_path, regular_size(open_file(host_path, O_RDONLY).get(), host_path)};
}

std::uint64_t Initramfs::content_size(const Content& content) noexcept {
  if (const auto* file = std::get_if<HostFile>(&content)) return file->size;
  if (const auto* owned = std::get_if<std::vector<std::byte>>(&content)) return owned->size();
  return std::get_if<std::span<const std::byte>>(&content)->size();
}

void Initramfs::add(Entry entry) {
  check_path(entry.path);
  if (const std::uint64_t size = content_size(entry.content); size > std::numeric_limits<std::uint32_t>::max()) {
    throw std::runtime_error(fmt::format("initramfs: {} has {} bytes, more than {}", entry.path, size,
                                         std::numeric_limits<std::uint32_t>::max()));
  }
  entries_.push_back(std::move(entry));
}

}  // namespace minivm::boot

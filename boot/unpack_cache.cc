#include "boot/unpack_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/guest_memory.h"
#include "base/log.h"
#include "boot/read_at.h"

namespace minivm::boot {
namespace {

constexpr std::size_t smallest_hole = 64U << 10;
constexpr std::array<char, 16> footer_magic{"minivm kernel 2"};
constexpr std::uint64_t facts_limit = 1U << 24;
constexpr std::size_t head_size = 4096;  // where an ELF file has its headers
constexpr std::size_t page_size = GuestMemory::page_size;

// The last bytes of an entry, in the byte order of the only kind of host there is.
struct Footer {
  std::array<char, 16> magic = footer_magic;
  std::uint64_t image_size = 0;
  std::uint64_t config_size = 0;
  std::uint64_t release_size = 0;
  std::uint64_t head_crc32 = 0;  // of the image's first `head_size` bytes

  std::uint64_t entry_size() const noexcept { return image_size + config_size + release_size + sizeof *this; }
};

std::uint64_t crc32_of(std::span<const std::byte> bytes) noexcept {
  return ::crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size()));
}

std::string reason() { return std::generic_category().message(errno); }

bool write_all(int fd, std::span<const std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

bool all_zero(std::span<const std::byte> page) noexcept {
  return page[0] == std::byte{} && std::memcmp(page.data(), page.data() + 1, page.size() - 1) == 0;
}

// Bytes of the pages at the front of `image` that are all of zeros, or all not.
std::size_t run_length(std::span<const std::byte> image, bool zero) noexcept {
  std::size_t length = 0;
  while (length < image.size() && all_zero(image.subspan(length, std::min(page_size, image.size() - length))) == zero) {
    length = std::min(length + page_size, image.size());
  }
  return length;
}

// Pages of zeros become holes, which need not be copied, unless they are so few that this costs less than to find the
// hole: each makes three system calls of a boot.
bool write_image(int fd, std::span<const std::byte> image) {
  while (!image.empty()) {
    const std::size_t hole = run_length(image, true);
    const bool written =
        hole < smallest_hole ? write_all(fd, image.first(hole)) : ::lseek(fd, static_cast<off_t>(hole), SEEK_CUR) >= 0;
    if (!written) return false;
    image = image.subspan(hole);
    const std::size_t data = run_length(image, false);
    if (!write_all(fd, image.first(data))) return false;
    image = image.subspan(data);
  }
  return true;
}

bool write_entry(int fd, std::span<const std::byte> image, const KernelFacts& facts) {
  Footer footer;
  footer.image_size = image.size();
  footer.config_size = facts.config.size();
  footer.release_size = facts.release.size();
  footer.head_crc32 = crc32_of(image.first(std::min(image.size(), head_size)));
  return write_image(fd, image) && write_all(fd, std::as_bytes(std::span(facts.config))) &&
         write_all(fd, std::as_bytes(std::span(facts.release))) && write_all(fd, std::as_bytes(std::span(&footer, 1)));
}

bool read_text(int fd, std::uint64_t offset, std::uint64_t size, std::string& text) {
  text.resize(size);
  return read_at(fd, offset, std::as_writable_bytes(std::span(text)));
}

// Nothing when the file is no whole entry. A crash of the host may leave the name without all of the data, since
// nothing waits for the disk: the size does not fit then.
std::optional<UnpackCache::Entry> read_entry(UniqueFd fd) {
  struct stat status {};
  Footer footer;
  if (::fstat(fd.get(), &status) != 0) return std::nullopt;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (!S_ISREG(status.st_mode) || size < sizeof footer || !read_at(fd.get(), size - sizeof footer, footer)) {
    return std::nullopt;
  }
  if (footer.magic != footer_magic || footer.config_size > facts_limit || footer.release_size > facts_limit ||
      footer.image_size > size || footer.entry_size() != size) {
    return std::nullopt;
  }
  std::array<std::byte, head_size> head_bytes;
  const auto head = std::span(head_bytes).first(std::min<std::uint64_t>(head_size, footer.image_size));
  if (!read_at(fd.get(), 0, head) || crc32_of(head) != footer.head_crc32) return std::nullopt;

  UnpackCache::Entry entry{std::move(fd), footer.image_size, {}};
  if (!read_text(entry.file.get(), footer.image_size, footer.config_size, entry.facts.config) ||
      !read_text(entry.file.get(), footer.image_size + footer.config_size, footer.release_size, entry.facts.release)) {
    return std::nullopt;
  }
  return entry;
}

UniqueFd open_directory(const std::string& directory) {
  return UniqueFd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

UniqueFd make_directory(const std::string& directory) {
  std::error_code ignored;  // the attempt to open it says what is wrong
  std::filesystem::create_directories(std::filesystem::path(directory).parent_path(), ignored);
  ::mkdir(directory.c_str(), S_IRWXU);
  return open_directory(directory);
}

bool private_to_user(int fd) noexcept {
  struct stat status {};
  return ::fstat(fd, &status) == 0 && status.st_uid == ::geteuid() && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

}  // namespace

UnpackCache::UnpackCache(std::string directory) : directory_(std::move(directory)) {
  if (directory_.empty()) return;
  fd_ = open_directory(directory_);
  if (!fd_ && errno == ENOENT) fd_ = make_directory(directory_);
  if (!fd_) {
    log::info("kernel cache {}: not used: {}", directory_, reason());
  } else if (!private_to_user(fd_.get())) {
    log::info("kernel cache {}: not used: it must belong to this user, and only this user may write to it", directory_);
    fd_.reset();
  }
}

std::optional<UnpackCache::Entry> UnpackCache::find(const std::string& name) const {
  if (!fd_) return std::nullopt;
  UniqueFd file(::openat(fd_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return std::nullopt;
  auto entry = read_entry(std::move(file));
  if (!entry) log::info("kernel cache {}: {} is damaged and is made again", directory_, name);
  return entry;
}

UnpackCache::Entry UnpackCache::store(const std::string& name, std::span<const std::byte> image,
                                      KernelFacts facts) const {
  if (fd_) {
    // The file has no name until it is whole, so nobody finds half of it and nothing is left behind by a kill.
    UniqueFd file(::openat(fd_.get(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR));
    const bool named = !file && errno == EOPNOTSUPP;
    if (named) file = open_partial(name);
    if (file && write_entry(file.get(), image, facts) && (named ? rename_partial(name) : keep(file, name))) {
      return {std::move(file), image.size(), std::move(facts)};
    }
    log::info("kernel cache {}: {} is not kept: {}", directory_, name, reason());
    if (named && file) ::unlinkat(fd_.get(), (name + ".partial").c_str(), 0);
  }
  UniqueFd memory(::memfd_create("minivm-kernel", MFD_CLOEXEC));
  if (!memory || !write_entry(memory.get(), image, facts)) throw_errno("memory for the unpacked kernel");
  return {std::move(memory), image.size(), std::move(facts)};
}

/// For file systems without O_TMPFILE (NFS, overlayfs before Linux 6.3). A kill leaves this one file, which whoever
/// makes the same entry next takes over.
UniqueFd UnpackCache::open_partial(const std::string& name) const {
  const std::string partial = name + ".partial";
  UniqueFd file(::openat(fd_.get(), partial.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR));
  if (!file || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return {};
  // Between the two calls another process may have finished it and given it its name.
  struct stat opened {};
  struct stat current {};
  if (::fstat(file.get(), &opened) != 0 || ::fstatat(fd_.get(), partial.c_str(), &current, 0) != 0 ||
      opened.st_ino != current.st_ino || ::ftruncate(file.get(), 0) != 0) {
    return {};
  }
  return file;
}

bool UnpackCache::rename_partial(const std::string& name) const {
  return ::renameat(fd_.get(), (name + ".partial").c_str(), fd_.get(), name.c_str()) == 0;
}

bool UnpackCache::keep(const UniqueFd& file, const std::string& name) const {
  const std::string unnamed = fmt::format("/proc/self/fd/{}", file.get());
  const auto link = [&] {
    return ::linkat(AT_FDCWD, unnamed.c_str(), fd_.get(), name.c_str(), AT_SYMLINK_FOLLOW) == 0;
  };
  if (link()) return true;
  if (errno != EEXIST) return false;
  // Either another process was quicker, and ours is as good, or that is a damaged entry, which nobody will miss.
  ::unlinkat(fd_.get(), name.c_str(), 0);
  return link() || errno == EEXIST;
}

void UnpackCache::add_alias(const std::string& alias, const std::string& name) const {
  if (!fd_) return;
  ::unlinkat(fd_.get(), alias.c_str(), 0);
  if (::symlinkat(name.c_str(), fd_.get(), alias.c_str()) != 0 && errno != EEXIST) {
    log::info("kernel cache {}: {} is not kept: {}", directory_, alias, reason());
  }
}

std::string identity(const struct stat& file) {
  return fmt::format("{:x}-{:x}-{:x}-{:x}.{:09}-{:x}.{:09}", file.st_dev, file.st_ino, file.st_size,
                     file.st_mtim.tv_sec, file.st_mtim.tv_nsec, file.st_ctim.tv_sec, file.st_ctim.tv_nsec);
}

bool settled(const struct stat& file) noexcept {
  static constexpr std::time_t seconds = 2;
  // Every change of content is one of ctime, and ctime, unlike mtime, cannot be set.
  return file.st_ctim.tv_sec + seconds < std::time(nullptr);
}

}  // namespace minivm::boot

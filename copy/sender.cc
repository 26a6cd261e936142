#include "copy/sender.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <new>
#include <utility>

namespace minivm::copy {
namespace {

using wire::Begin;
using wire::Entry;
using wire::RecordType;

// struct linux_dirent64 of getdents64(2), which the C libraries wrap in one with a heap.
constexpr std::size_t entry_size_offset = 16;  // u16
constexpr std::size_t entry_name_offset = 19;

Entry describe(const struct stat& status, std::string_view name, std::string_view target = {}) noexcept {
  return {.mode = status.st_mode & 07777,
          .uid = status.st_uid,
          .gid = status.st_gid,
          .modified_s = static_cast<std::uint64_t>(status.st_mtim.tv_sec),
          .modified_ns = static_cast<std::uint32_t>(status.st_mtim.tv_nsec),
          .name = name,
          .target = target};
}

/// The last component, without slashes behind it; empty for "/".
std::string_view last_component(std::string_view path) noexcept {
  while (!path.empty() && path.back() == '/') path.remove_suffix(1);
  path.remove_prefix(path.rfind('/') + 1);  // npos + 1: nothing to remove
  return path;
}

}  // namespace

Sender::Sender(int output, std::string_view side) noexcept
    : report_(side), buffer_(RecordWriter::buffer_size), records_(output, buffer_.bytes()) {}

int Sender::send(const char* source) noexcept {
  if (!buffer_) {
    report_(source, ENOMEM);
    return 1;
  }
  if (!path_.push(source)) {
    report_(source, ENAMETOOLONG);
    return 1;
  }
  const bool delivered = send_top(source) && walk();
  // A tree of which parts are missing ends in order: what is there is whole.
  return delivered && records_.put(RecordType::end) && records_.flush() && complete_ ? 0 : 1;
}

bool Sender::send_top(const char* source) noexcept {
  const std::string_view name = last_component(source);
  const bool has_name = wire::is_name(name);  // not "/", "." or ".."
  top_ = path_.size();
  struct stat status {};
  if (fstatat(AT_FDCWD, source, &status, AT_SYMLINK_NOFOLLOW) != 0) {
    // Nothing was said yet: the other end learns by the end of the stream.
    fail(errno);
    return false;
  }
  const Begin begin{.flags = S_ISDIR(status.st_mode) && !has_name ? Begin::contents : 0};
  return records_.put(RecordType::begin, begin) &&
         send_object({AT_FDCWD, source, has_name ? name : std::string_view()});
}

bool Sender::walk() noexcept {
  while (depth_ > 0) {
    Level& level = levels_[depth_ - 1];
    const char* const name = next_name(level);
    if (name == nullptr) {
      if (!records_.put(RecordType::leave)) return false;
      path_.cut(level.path_size);
      level.directory.reset();
      --depth_;
      continue;
    }
    const std::size_t here = path_.size();
    if (!path_.push(name)) {
      report_(path_.view(), "a path below it is too long");
      complete_ = false;
      continue;
    }
    const std::size_t before = depth_;
    if (!send_object({level.directory.get(), name, name})) return false;
    if (depth_ > before) {
      levels_[before].path_size = here;
    } else {
      path_.cut(here);
    }
  }
  return true;
}

const char* Sender::next_name(Level& level) noexcept {
  for (;;) {
    if (level.begin == level.end) {
      const long count = syscall(SYS_getdents64, level.directory.get(), level.entries.data(), level.entries.size());
      if (count < 0) fail(errno);
      if (count <= 0) return nullptr;
      level.begin = 0;
      level.end = static_cast<std::size_t>(count);
    }
    const char* const entry = level.entries.data() + level.begin;
    std::uint16_t size = 0;
    std::memcpy(&size, entry + entry_size_offset, sizeof size);
    level.begin += size;
    const char* const name = entry + entry_name_offset;
    if (wire::is_name(name)) return name;  // all but "." and ".."
  }
}

/// False: nobody reads any more.
bool Sender::send_object(const Object& object) noexcept {
  struct stat status {};
  if (fstatat(object.parent, object.name, &status, AT_SYMLINK_NOFOLLOW) != 0) return fail(errno), true;
  if (S_ISDIR(status.st_mode)) return send_directory(object);
  if (S_ISLNK(status.st_mode)) return send_symlink(object, status);
  if (S_ISREG(status.st_mode)) return send_file(object, status);
  report_(path_.view(), "skipped: neither a file, a directory nor a symbolic link");
  if (depth_ == 0) complete_ = false;
  return true;
}

bool Sender::send_file(const Object& object, const struct stat& status) noexcept {
  if (status.st_nlink > 1 && depth_ > 0) {
    const std::string_view first = links_.find_or_add(status.st_dev, status.st_ino, path_in_tree());
    if (!first.empty()) return records_.put(RecordType::link, describe(status, object.sent_name, first));
  }
  // It may have become another thing since it was looked at.
  const Fd file(openat(object.parent, object.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat opened {};
  if (!file || fstat(file.get(), &opened) != 0) return fail(errno), true;
  if (!S_ISREG(opened.st_mode)) return fail(ESTALE), true;
  constexpr off_t block = 512;  // the unit of st_blocks, always
  const bool sparse = opened.st_blocks < opened.st_size / block;
  return records_.put(RecordType::file, describe(opened, object.sent_name)) && send_content(file.get(), sparse) &&
         records_.put(RecordType::file_end);
}

bool Sender::send_content(int file, bool sparse) noexcept {
  constexpr off_t no_end = INT64_MAX;
  for (off_t at = 0;;) {
    off_t end = no_end;
    if (sparse) {
      off_t begin = lseek(file, at, SEEK_DATA);
      const bool only_zeros = begin < 0 && errno == ENXIO;
      if (only_zeros) begin = lseek(file, 0, SEEK_END);
      if (begin > at && !records_.put(RecordType::hole, wire::Hole{static_cast<std::uint64_t>(begin - at)}))
        return false;
      if (only_zeros) return true;
      at = std::max(begin, at);
      end = begin < 0 ? -1 : lseek(file, begin, SEEK_HOLE);
      if (end < 0) {  // a file system that knows of no holes
        sparse = false;
        continue;
      }
    }
    if (!send_range(file, at, end, at)) return false;
    if (at < end) return true;  // the end of the file, or an error that was told
  }
}

/// `done` is where it came to.
bool Sender::send_range(int file, off_t begin, off_t end, off_t& done) noexcept {
  for (done = begin; done < end;) {
    const auto space = records_.data_space();
    if (space.empty()) return false;
    const auto wanted = std::min<std::uint64_t>(space.size(), static_cast<std::uint64_t>(end - done));
    const ssize_t count = pread(file, space.data(), wanted, done);
    if (count < 0) fail(errno);
    if (count <= 0) return true;
    records_.put_data(static_cast<std::size_t>(count));
    done += count;
  }
  return true;
}

bool Sender::send_directory(const Object& object) noexcept {
  if (depth_ == max_depth) {
    report_(path_.view(), "skipped: directories are nested too deep");
    complete_ = false;
    return true;
  }
  // The topmost one may be named by way of a link, by a slash or a dot behind it.
  const int follow = depth_ == 0 ? 0 : O_NOFOLLOW;
  Fd directory(openat(object.parent, object.name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | follow));
  struct stat status {};
  if (!directory || fstat(directory.get(), &status) != 0) return fail(errno), true;
  Level& level = levels_[depth_++];
  level.directory = std::move(directory);
  level.path_size = path_.size();
  level.begin = level.end = 0;
  return records_.put(RecordType::directory, describe(status, object.sent_name));
}

bool Sender::send_symlink(const Object& object, const struct stat& status) noexcept {
  char target[PATH_MAX];
  const ssize_t size = readlinkat(object.parent, object.name, target, sizeof target);
  if (size < 0) return fail(errno), true;
  return records_.put(RecordType::symlink,
                      describe(status, object.sent_name, {target, static_cast<std::size_t>(size)}));
}

void Sender::fail(int error) noexcept {
  report_(path_.view(), error);
  complete_ = false;
}

std::string_view Sender::path_in_tree() const noexcept {
  std::string_view path = path_.view();
  path.remove_prefix(top_);
  while (!path.empty() && path.front() == '/') path.remove_prefix(1);
  return path;
}

int send(const char* source, int output, std::string_view side) noexcept {
  Mapping memory(sizeof(Sender));
  if (!memory) return Report(side)(source, ENOMEM), 1;
  auto* const sender = new (memory.bytes().data()) Sender(output, side);
  const int code = sender->send(source);
  sender->~Sender();
  return code;
}

}  // namespace minivm::copy

#include "vmm/log_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <utility>

namespace minivm {
namespace {

UniqueFd open_part(int directory, const std::string& name) {
  return UniqueFd(::openat(directory, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
}

bool is_same(const UniqueFd& one, const UniqueFd& other) noexcept {
  struct stat a {};
  struct stat b {};
  return one && other && ::fstat(one.get(), &a) == 0 && ::fstat(other.get(), &b) == 0 && a.st_ino == b.st_ino &&
         a.st_dev == b.st_dev;
}

bool append_rest(const UniqueFd& file, std::vector<std::byte>& bytes) {
  bool any = false;
  std::array<std::byte, 65536> part;
  for (;;) {
    const ssize_t size = ::read(file.get(), part.data(), part.size());
    if (size <= 0) return any;
    bytes.insert(bytes.end(), part.begin(), part.begin() + size);
    any = true;
  }
}

}  // namespace

LogReader::LogReader(int directory, std::string name)
    : directory_(directory), name_(std::move(name)), file_(open_part(directory_, name_ + ".1")) {
  if (!file_) file_ = open_part(directory_, name_);
}

bool LogReader::read(std::vector<std::byte>& bytes) {
  if (at_part_end_) {
    at_part_end_ = false;
    file_ = open_next();
  }
  // Looked for first: what is appended until it is there is then read as well.
  const bool has_next = static_cast<bool>(open_next());
  const bool any = append_rest(file_, bytes);
  at_part_end_ = has_next;
  return any || has_next;
}

/// The part that the writer began after the one that is being read; empty when that is the youngest.
UniqueFd LogReader::open_next() const {
  UniqueFd youngest = open_part(directory_, name_);
  UniqueFd older = open_part(directory_, name_ + ".1");
  if (is_same(file_, youngest)) return {};
  if (!older || is_same(file_, older)) return youngest;
  return older;  // the writer has gone on by more than one since
}

}  // namespace minivm

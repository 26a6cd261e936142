#include "vmm/log_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <utility>

namespace minivm {
namespace {

UniqueFd create(int directory, const std::string& name) {
  return UniqueFd(::openat(directory, name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
}

}  // namespace

LogFile::LogFile(int directory, std::string name, std::size_t limit)
    : directory_(directory), name_(std::move(name)), limit_(limit), fd_(create(directory, name_)) {
  if (!fd_) throw_errno(name_);
}

void LogFile::append(std::span<const std::byte> bytes) {
  if (size_ != 0 && size_ + bytes.size() > limit_) turn_over();
  const ssize_t written = ::write(fd_.get(), bytes.data(), bytes.size());
  if (written > 0) size_ += static_cast<std::size_t>(written);
  // A part of a record would put all that follow out of step.
  if (written > 0 && static_cast<std::size_t>(written) < bytes.size()) turn_over();
}

void LogFile::turn_over() {
  ::renameat(directory_, name_.c_str(), directory_, (name_ + ".1").c_str());
  fd_ = create(directory_, name_);
  size_ = 0;
}

}  // namespace minivm

#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"

namespace minivm::test {

/// A file of the test's own, gone after it.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::uint64_t size = 0) : file_(::mkstemp(path_.data())) {
    if (!file_) throw_errno(path_);
    if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0) throw_errno(path_);
  }
  ~TemporaryFile() { ::unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::string& path() const noexcept { return path_; }

  void write(std::uint64_t offset, std::string_view bytes) const {
    if (::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) !=
        static_cast<ssize_t>(bytes.size())) {
      throw_errno(path_);
    }
  }
  std::string read(std::uint64_t offset, std::size_t size) const {
    std::string bytes(size, '\0');
    const ssize_t count = ::pread(file_.get(), bytes.data(), size, static_cast<off_t>(offset));
    bytes.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
    return bytes;
  }
  void resize(std::uint64_t size) const {
    if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0) throw_errno(path_);
  }

 private:
  std::string path_ = "/tmp/minivm-test-XXXXXX";
  UniqueFd file_;
};

}  // namespace minivm::test

#pragma once

#include <sys/stat.h>

#include <array>
#include <cstddef>
#include <string_view>

#include "copy/links.h"
#include "copy/path.h"
#include "copy/records.h"
#include "copy/report.h"
#include "freestanding/fd.h"
#include "freestanding/mapping.h"

namespace minivm::copy {

/// Walks a file or tree and sends it. What cannot be read is told and left out. No heap, no exceptions; large, so it
/// lives in memory of its own.
class Sender {
 public:
  Sender(int output, std::string_view side) noexcept;

  /// An exit code: 0, or 1 when not all was sent. `source` is followed when it ends in a slash.
  int send(const char* source) noexcept;

 private:
  static constexpr std::size_t max_depth = 256;

  /// An open directory, and the part of its entries that was read.
  struct Level {
    Fd directory;
    std::size_t path_size = 0;  // of path_ above it
    std::size_t begin = 0;
    std::size_t end = 0;
    alignas(8) std::array<char, 8192> entries;
  };
  struct Object {
    int parent;
    const char* name;            // in `parent`
    std::string_view sent_name;  // empty for the root directory
  };

  bool send_top(const char* source) noexcept;
  bool walk() noexcept;
  const char* next_name(Level& level) noexcept;
  bool send_object(const Object& object) noexcept;
  bool send_file(const Object& object, const struct stat& status) noexcept;
  bool send_content(int file, bool sparse) noexcept;
  bool send_range(int file, off_t begin, off_t end, off_t& done) noexcept;
  bool send_directory(const Object& object) noexcept;
  bool send_symlink(const Object& object, const struct stat& status) noexcept;
  void fail(int error) noexcept;
  std::string_view path_in_tree() const noexcept;

  Report report_;
  Mapping buffer_;
  RecordWriter records_;
  Links links_;
  WalkedPath path_;        // of the object at hand, for reports
  std::size_t top_ = 0;    // size of path_ at the topmost directory
  std::size_t depth_ = 0;  // levels in use
  bool complete_ = true;
  std::array<Level, max_depth> levels_;
};

/// Sends `source` to `output`; see Sender.
int send(const char* source, int output, std::string_view side) noexcept;

}  // namespace minivm::copy

#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string_view>

#include "freestanding/mapping.h"

namespace minivm::copy {

/// Where files with more than one name were met first. Bounded: what does not fit any more is taken for new each time,
/// and so becomes a file of its own at the other end.
class Links {
 public:
  /// The path that the file had when it was met first; empty: this is the first time, and `path` is kept.
  std::string_view find_or_add(dev_t device, ino_t inode, std::string_view path) noexcept;

 private:
  struct Slot {
    dev_t device;
    ino_t inode;
    std::uint32_t begin;
    std::uint32_t size;  // 0: free
  };
  static constexpr std::size_t slots = 128 * 1024;
  static constexpr std::size_t max_used = slots / 4 * 3;
  static constexpr std::size_t text_size = 16 * 1024 * 1024;

  Mapping memory_;  // slots, then the paths; made when the first file comes
  std::size_t used_ = 0;
  std::size_t text_used_ = 0;
};

}  // namespace minivm::copy

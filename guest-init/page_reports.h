#pragma once

#include <cstddef>

#include "freestanding/fd.h"

namespace minivm::guest {

/// How small a free part of memory may be for the kernel to tell the host of it. A kernel tells of the largest that it
/// manages, 2 or 4 MiB. After a boot most of what is free lies between what is used, so for the first seconds it is to
/// tell of smaller parts too; for good a busy guest would go on giving memory away and taking it back.
class PageReports {
 public:
  PageReports() noexcept = default;
  /// From now on small parts. Nothing happens where the kernel reports none, or cannot be told.
  static PageReports of_small_parts() noexcept;

  /// Readable when it is time for `restore`; -1 when that never comes.
  int timer() const noexcept { return timer_.get(); }
  /// The kernel's own choice again.
  void restore() noexcept;

 private:
  Fd order_;
  char chosen_[8]{};  // by the kernel
  std::size_t chosen_size_ = 0;
  Fd timer_;
};

}  // namespace minivm::guest

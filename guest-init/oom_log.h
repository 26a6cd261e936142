#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <string_view>

#include "freestanding/fd.h"

namespace minivm::guest {

/// Tells from the kernel's log which processes its OOM killer ended. Best effort: without /dev/kmsg it knows of none.
class OomLog {
 public:
  OomLog() noexcept;

  /// `pid` was just given to a new process: what was said of an earlier bearer is void.
  void forget(pid_t pid) noexcept;
  bool killed(pid_t pid) noexcept;

 private:
  void refresh() noexcept;

  Fd log_;
  std::array<pid_t, 32> victims_{};
  std::size_t next_ = 0;
};

/// The process that a kernel message says was killed for lack of memory, else 0.
pid_t oom_victim(std::string_view message) noexcept;

}  // namespace minivm::guest

#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/fd.h"

namespace minivm {

/// Logs in the directory of a machine. Each may have an older part, of the same name with ".1" behind it.
inline constexpr const char* console_log = "console.log";  // what the guest wrote to its serial console
inline constexpr const char* output_log = "output.log";    // what its command wrote: records of vmm/output_log.h
inline constexpr const char* vmm_log = "minivm.log";       // what minivm itself had to say

/// A log whose size is bounded: when the file is full it becomes the older part, and the older part before it is gone.
/// So at least the last `limit` bytes are there, and never more than twice as many. A host that cannot write loses
/// bytes of the log and nothing else. One thread.
class LogFile {
 public:
  static constexpr std::size_t default_limit = std::size_t{4} << 20;

  /// Begins anew in `directory`, which is not closed. Throws std::system_error that names the file.
  LogFile(int directory, std::string name, std::size_t limit = default_limit);

  /// `bytes` stay together in one file.
  void append(std::span<const std::byte> bytes);

 private:
  void turn_over();

  int directory_;
  std::string name_;
  std::size_t limit_;
  std::size_t size_ = 0;
  UniqueFd fd_;
};

}  // namespace minivm

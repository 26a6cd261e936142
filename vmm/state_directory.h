#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"

namespace minivm {

/// The directory under which every machine with a name has one of its own: $XDG_RUNTIME_DIR/minivm, else
/// /run/user/UID/minivm, else /tmp/minivm-UID. It is the user's alone.
class StateDirectory {
 public:
  /// While it lives, no other process adds or removes machines or judges whether they live.
  class Lock {
   public:
    explicit Lock(UniqueFd fd) noexcept : fd_(std::move(fd)) {}

   private:
    UniqueFd fd_;  // flock(2) goes with the open file description
  };

  static std::string default_path();

  /// Makes the directory when it is missing. Throws std::system_error or std::runtime_error: it cannot be made, is a
  /// link, or is open to others.
  explicit StateDirectory(std::string path = default_path());

  const std::string& path() const noexcept { return path_; }
  int fd() const noexcept { return fd_.get(); }
  /// Throws std::runtime_error when another process keeps it for many seconds.
  Lock lock() const;
  /// Names in it that may be machines.
  std::vector<std::string> names() const;

 private:
  std::string path_;
  UniqueFd fd_;
};

/// [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 63: good for a path, a host name and a command line.
bool is_machine_name(std::string_view name) noexcept;

/// Reads a small file of a machine's directory; empty when it is not there.
std::string read_state_file(int directory, const char* name);
/// Replaces it as a whole: readers see the old one or the new one. Throws std::system_error.
void write_state_file(int directory, const char* name, std::string_view text);

}  // namespace minivm

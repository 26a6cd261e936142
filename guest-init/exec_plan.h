#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "guest-init/users.h"
#include "protocol/messages.h"

namespace minivm::guest {

/// All that a program needs to be started, complete before the fork: the child only makes system calls. Lives with its
/// strings in memory of the caller, so that the request's buffer can take the next frame.
class ExecPlan {
 public:
  /// Bytes that a plan takes for a request whose payload has `payload_size` bytes.
  static std::size_t size_for(const protocol::Exec& request, std::size_t payload_size) noexcept;

  /// Builds the plan at the start of `memory`, which is aligned for it and zeroed. Returns nullptr and why not.
  static ExecPlan* build(const protocol::Exec& request, const UserFiles& files, std::span<std::byte> memory,
                         protocol::ExecFailed& failed) noexcept;

  Identity identity;
  const char* directory = nullptr;  // nullptr: home when it is there, else /
  char** argv = nullptr;            // both lists end with nullptr
  char** environment = nullptr;
  const char* search_path = nullptr;  // the request's PATH
  std::uint32_t umask = protocol::Exec::default_umask;
  protocol::ResourceLimits limits;
  const char* interpreter = nullptr;  // of an upload; nullptr: it needs none
  char** libraries = nullptr;         // that an upload needs, ends with nullptr
  protocol::ExecFailed verdict;       // where the child says why it failed
  char program[PATH_MAX];             // where the child puts the paths that it tries

 private:
  ExecPlan() = default;
};

}  // namespace minivm::guest

#pragma once

#include <sys/types.h>

#include <array>

#include "guest-init/exec_plan.h"

namespace minivm::guest {

/// What a program starts with besides its plan.
struct SpawnFiles {
  std::array<int, 3> standard{-1, -1, -1};  // become fds 0, 1 and 2; each is above 2
  int program = -1;                         // an executable to run instead of looking argv[0] up
  bool controlling_terminal = false;        // fd 0 is a terminal and becomes the session's
};

struct SpawnResult {
  pid_t pid = -1;  // also the id of its session and process group
  protocol::ExecFailed failed;
  bool ok() const noexcept { return pid > 0; }
};

/// Starts the program and returns when it runs or cannot run. All signals are blocked in the caller and no disposition
/// was ever changed; the program starts with none blocked. Single-threaded callers only.
SpawnResult spawn(ExecPlan& plan, const SpawnFiles& files) noexcept;

}  // namespace minivm::guest

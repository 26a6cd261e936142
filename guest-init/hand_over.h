#pragma once

#include "guest-init/failure.h"

namespace minivm::guest {

/// Makes `path`, an init of the user's, PID 1. Called by PID 1 and returns in two cases: with nothing in a new process
/// that is to serve execs, once the init runs; or with the failure in PID 1, and then there is no other process.
/// `argv` is PID 1's own: the init gets what follows its first.
Outcome hand_over(char** argv, const char* path) noexcept;

/// Makes the root directory of PID 1, which an initrd's init changes, the caller's. `proc` is open on /proc.
void enter_root_of_init(int proc) noexcept;

/// Runs the init system's own poweroff command and waits some seconds for it to have its way.
void ask_init_to_power_off() noexcept;

}  // namespace minivm::guest

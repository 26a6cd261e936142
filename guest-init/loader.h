#pragma once

#include <cstddef>
#include <span>

#include "guest-init/exec_plan.h"

namespace minivm::guest {

/// Whether the loader and the libraries that an uploaded program names are there, before the kernel or the loader
/// says so in words that name neither. Judges only what it is sure of: the libraries only for glibc's loader, without
/// LD_LIBRARY_PATH, and one that the loader's cache lists counts as there. `buffer` is scratch space, of some KiB.
/// Nothing is missing: `step` is zero. Otherwise `object`, a string of the plan, is.
protocol::ExecFailed find_missing(const ExecPlan& plan, std::span<std::byte> buffer) noexcept;

}  // namespace minivm::guest

#pragma once

#include "guest-init/failure.h"

namespace minivm::guest {

/// Loads each NNN-name.ko of the initramfs in the order of their names, which is the order of their dependencies, and
/// gives its memory back. No directory is no module. A module that is there already is fine.
Outcome load_modules() noexcept;

}  // namespace minivm::guest

#pragma once

#include "guest-init/failure.h"

namespace minivm::guest {

/// Makes the symbolic links that the file protocol::initramfs::links names in the tree beside it: a line is the target,
/// one space and the path under the tree's top. An archive can hold links itself, but each costs the kernel's unpacker
/// more than twice the instructions. Without such a file there is nothing to do.
Outcome make_links() noexcept;

}  // namespace minivm::guest

#pragma once

#include "guest-init/failure.h"
#include "protocol/guest_config.h"

namespace minivm::guest {

/// Makes the root that the configuration wants this process's: mounts it, moves the kernel's file systems there and
/// changes over. With the user's own initrd it stays where it is.
Outcome enter_root(const protocol::GuestConfig& config) noexcept;

}  // namespace minivm::guest

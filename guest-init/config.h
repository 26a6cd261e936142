#pragma once

#include "guest-init/failure.h"
#include "protocol/guest_config.h"

namespace minivm::guest {

/// Reads what the host put into the initramfs; the strings stay valid for good.
Outcome read_config(protocol::GuestConfig& config) noexcept;

}  // namespace minivm::guest

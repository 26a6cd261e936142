#pragma once

#include "guest-init/failure.h"
#include "protocol/guest_config.h"

namespace minivm::guest {

/// Gives the network device its addresses and routes, and programs the names of servers: all at once, with nobody to
/// wait for. `init_is_ours`: nobody else will look after /etc/resolv.conf.
Outcome set_up_network(const protocol::GuestConfig& config, bool init_is_ours) noexcept;

}  // namespace minivm::guest

#pragma once

#include <cstdint>

#include "freestanding/fd.h"
#include "guest-init/failure.h"

namespace minivm::guest {

/// Listens on the vsock port where the host's connections for the streams of execs arrive.
Outcome listen_for_streams(Fd& listener) noexcept;

/// The stream that the host dialled from its port `port`; see TakeStream. The host dials an exec's streams in the order
/// in which they are taken, and before it asks for the exec: whatever came earlier belongs to no exec any more, or
/// never did, and is closed.
int take_stream(int listener, std::uint32_t port) noexcept;

}  // namespace minivm::guest

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "freestanding/fd.h"
#include "guest-init/failure.h"
#include "protocol/frame.h"
#include "protocol/messages.h"

namespace minivm::guest {

/// The control connection during the boot: one frame at a time, each wait with a deadline. The exec server takes its
/// socket over.
class Channel {
 public:
  /// Connects, waiting some seconds for the vsock device to be probed.
  Outcome connect() noexcept;
  /// Exchanges hello and welcome, stamps its arrival, then follows the host's clock.
  Outcome greet(protocol::Ready& stamps) noexcept;

  void send_ready(const protocol::Ready& ready) noexcept;
  /// Says why this machine ends and gives the host a moment to take note. Nothing without a connection.
  void send_failed(const Failure& failure) noexcept;

  Fd release() noexcept { return std::move(socket_); }

 private:
  bool send(std::span<const std::byte> frame) noexcept;
  bool receive(std::span<std::byte> bytes) noexcept;

  Fd socket_;
};

}  // namespace minivm::guest

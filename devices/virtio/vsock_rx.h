#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "devices/virtio/spec.h"
#include "devices/virtio/virtqueue.h"

namespace minivm::virtio {

/// The rx queue of a vsock device: packets to the guest (VirtIO 1.2, 5.10.6). Linux posts buffers of 4 KiB, so one read
/// from a host end is spread over several of them: buffers are popped ahead, offered as one list, and become packets
/// when bytes are in them. What was popped and not used waits here for the next packet.
class VsockRx {
 public:
  explicit VsockRx(Virtqueue queue);

  /// Whether the guest has a buffer for a packet.
  bool ready() noexcept;
  /// Room for payload, of at most `limit` bytes; empty when `ready` is not. Valid until the next `send`.
  std::span<const iovec> space(std::uint32_t limit) noexcept;
  /// Sends `size` bytes that were stored at the front of `space`, as many packets as that takes; one when it is 0.
  /// `ready` must have been true.
  void send(vsock::PacketHeader header, std::uint32_t size) noexcept;

  /// Asks the guest to notify about its next buffer; true when there is one already.
  bool wait_for_buffers() noexcept;
  bool needs_interrupt() noexcept { return queue_.needs_interrupt(); }
  bool broken() const noexcept { return queue_.broken(); }

 private:
  /// Enough for the 64 KiB that a pipe holds, in buffers of Linux.
  static constexpr std::size_t max_held = 20;

  struct Held {
    std::uint16_t head = 0;
    std::size_t parts = 0;
    std::uint64_t size = 0;  // the packet's header included
  };

  bool hold_another() noexcept;

  Virtqueue queue_;
  DescriptorChain chain_;
  std::vector<Held> held_;    // chains, in the order of the ring
  std::vector<iovec> parts_;  // their buffers
  std::vector<iovec> space_;
};

}  // namespace minivm::virtio

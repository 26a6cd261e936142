#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "devices/virtio/net_backend.h"
#include "devices/virtio/virtqueue.h"

namespace minivm::virtio {

/// The receive queue of one pair (VirtIO 1.2, 5.1.6.3, 5.1.6.4). Chains are taken from the ring ahead of the frames and
/// held until one fills them, so that each is read once and a frame goes straight from the backend into guest memory.
/// With mergeable buffers so many are held that the largest frame fits, without them one. Event-loop thread.
class NetRx {
 public:
  /// `largest_frame` counts the header. What the driver posts decides how many chains that is.
  NetRx(Virtqueue queue, bool mergeable, std::size_t largest_frame);

  void set_largest_frame(std::size_t size) noexcept { largest_frame_ = size; }

  /// Takes chains until the next frame fits, whatever its size. False when the driver must post more first.
  bool gather() noexcept;
  /// Takes one frame from the backend. False when it had none. To be called when `gather` said yes.
  bool receive(NetBackend& backend, std::uint16_t pair) noexcept;

  /// Asks to be told of new buffers. True when some came meanwhile: gather again.
  bool wait_for_buffers() noexcept { return queue_.enable_notifications(); }
  /// There are enough: to be told of each new one would be of no use.
  void disable_notifications() noexcept { queue_.disable_notifications(); }
  bool needs_interrupt() noexcept { return queue_.needs_interrupt(); }
  bool broken() const noexcept { return queue_.broken(); }

 private:
  struct Held {
    std::uint16_t head = 0;
    std::size_t parts = 0;
    std::size_t size = 0;
  };

  bool enough() const noexcept;
  bool hold() noexcept;
  void deliver(std::size_t size) noexcept;

  Virtqueue queue_;
  bool mergeable_;
  std::size_t largest_frame_;
  DescriptorChain chain_;
  std::vector<Held> held_;    // chains, in the order of the ring
  std::vector<iovec> parts_;  // their buffers
  std::size_t room_ = 0;      // the size of all parts
  bool full_ = false;         // the next chain has too many parts to be held as well
  std::byte overflow_{};      // written when a frame is longer than the room
};

}  // namespace minivm::virtio

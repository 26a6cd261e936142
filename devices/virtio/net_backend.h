#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace minivm::virtio {

/// The other end of a network device's cable. Every frame begins with a `net::Header` of 12 bytes. All calls but the
/// constructor's come from the device's event-loop thread, and all of them come back soon: no call waits.
class NetBackend {
 public:
  /// What the device wants to hear.
  struct Events {
    /// Called as long as there are frames and `want_frames` says so, with turns for others in between.
    std::function<void(std::uint16_t pair)> frames;
    /// Called once after `send` was refused, when it can be tried again.
    std::function<void(std::uint16_t pair)> room;
  };

  NetBackend() = default;
  virtual ~NetBackend() = default;
  NetBackend(const NetBackend&) = delete;
  NetBackend& operator=(const NetBackend&) = delete;

  /// The feature bits, of checksums and segmentation, that it can carry out.
  virtual std::uint64_t offloads() const noexcept = 0;
  /// How many queue pairs it can keep apart.
  virtual std::uint16_t queue_pairs() const noexcept = 0;
  virtual std::uint16_t mtu() const noexcept = 0;

  /// From here on there are events, until `stop`. Frames are wanted, of the first pair alone.
  virtual void start(Events events) noexcept = 0;
  virtual void stop() noexcept = 0;
  /// What frames may leave to the guest: GUEST_* bits that the driver acknowledged.
  virtual void set_guest_offloads(std::uint64_t features) noexcept = 0;
  /// Spreads frames over the first `pairs` pairs.
  virtual void use_pairs(std::uint16_t pairs) noexcept = 0;
  /// False while the driver has no buffers.
  virtual void want_frames(std::uint16_t pair, bool wanted) noexcept = 0;

  /// Takes one frame into `space`: its size, 0 when there is none. A frame that is longer than `space` is lost, and
  /// counts as at least one byte less than it; give one byte more than there is, to tell.
  virtual std::size_t receive(std::uint16_t pair, std::span<const iovec> space) noexcept = 0;
  /// Sends one frame; the first part is the header. False when there is no room now, and nothing was sent. A frame that
  /// the host refuses is lost, as on any network.
  virtual bool send(std::uint16_t pair, std::span<const iovec> frame) noexcept = 0;
};

}  // namespace minivm::virtio

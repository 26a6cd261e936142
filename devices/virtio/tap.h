#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/log.h"
#include "devices/virtio/net_backend.h"

namespace minivm::virtio {

/// Descriptors of one TAP interface, non-blocking, that move frames with a header of 12 bytes.
struct TapQueues {
  std::string name;  // for messages
  std::vector<UniqueFd> files;
  std::uint64_t offloads = 0;  // of virtio-net's feature bits, what the host's kernel can do
  std::uint16_t mtu = 1500;
};

/// Attaches to the interface `name` with so many queues, and makes it when there is none and the caller may. Throws
/// std::system_error or std::runtime_error that names the interface.
TapQueues open_tap(const std::string& name, std::uint16_t queues);
/// Duplicates descriptors of a TAP interface that somebody else opened, one for each queue. Throws when one is not.
TapQueues adopt_tap(std::span<const int> fds);

/// A network backend over a TAP interface (tuntap.rst): one readv or writev for each frame.
class Tap final : public NetBackend {
 public:
  /// `loop` is the device's, and outlives this.
  Tap(TapQueues queues, EventLoop& loop);
  ~Tap() override { stop(); }

  std::uint64_t offloads() const noexcept override { return offloads_; }
  std::uint16_t queue_pairs() const noexcept override { return static_cast<std::uint16_t>(queues_.size()); }
  std::uint16_t mtu() const noexcept override { return mtu_; }

  void start(Events events) noexcept override;
  void stop() noexcept override { use_pairs(0); }
  void set_guest_offloads(std::uint64_t features) noexcept override;
  void use_pairs(std::uint16_t pairs) noexcept override;
  void want_frames(std::uint16_t pair, bool wanted) noexcept override;
  std::size_t receive(std::uint16_t pair, std::span<const iovec> space) noexcept override;
  bool send(std::uint16_t pair, std::span<const iovec> frame) noexcept override;

 private:
  struct Queue {
    UniqueFd file;
    bool attached = true;  // the kernel spreads frames over attached queues
    bool watched = false;
    std::uint32_t events = 0;
  };

  void attach(Queue& queue, bool attached) noexcept;
  void watch(std::uint16_t pair) noexcept;
  void unwatch(Queue& queue) noexcept;
  void set_event(Queue& queue, std::uint32_t event, bool wanted) noexcept;
  void on_ready(std::uint16_t pair, std::uint32_t ready) noexcept;

  std::string name_;
  EventLoop& loop_;
  std::uint64_t offloads_;
  std::uint16_t mtu_;
  std::vector<Queue> queues_;
  Events events_;
  log::FaultLimit faults_;
};

}  // namespace minivm::virtio

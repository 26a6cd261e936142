#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/event_loop.h"
#include "devices/virtio/device.h"
#include "devices/virtio/vsock_endpoint.h"

namespace minivm::virtio {

/// virtio-vsock (VirtIO 1.2, 5.10): stream connections between the guest and endpoints in this process.
/// Event-loop thread, except for what VirtioDevice says otherwise.
class Vsock final : public VirtioDevice {
 public:
  static constexpr std::uint64_t host_cid = 2;
  static constexpr std::size_t max_connections = 4096;

  /// Makes the endpoint for a connection that the guest asks for; nullptr refuses it with RST.
  using Accept = std::move_only_function<std::shared_ptr<VsockEndpoint>(std::uint32_t guest_port)>;

  Vsock(std::uint64_t guest_cid, EventLoop& loop);
  ~Vsock() override;

  /// Serves guest connections to `host_port`; replaces an earlier listener. May be called before the guest runs.
  void listen(std::uint32_t host_port, Accept accept);
  void unlisten(std::uint32_t host_port) noexcept;
  /// Dials `guest_port`: `attached` follows, or `closed(false)` when the guest refuses or does not answer in time.
  void connect(std::uint32_t guest_port, std::shared_ptr<VsockEndpoint> endpoint);

  std::uint32_t type() const noexcept override;
  std::uint64_t features() const noexcept override;
  std::span<const std::uint16_t> queue_sizes() const noexcept override;
  void read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept override;
  void activate(Activation activation) noexcept override;
  void on_notify(std::uint16_t queue) noexcept override;
  void reset() noexcept override;

 private:
  // The author of vsock.cc completes this part.
  EventLoop& loop_;
  std::uint64_t guest_cid_;
};

}  // namespace minivm::virtio

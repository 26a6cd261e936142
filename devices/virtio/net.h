#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/log.h"
#include "devices/virtio/device.h"
#include "devices/virtio/net_backend.h"
#include "devices/virtio/net_rx.h"
#include "devices/virtio/spec.h"

namespace minivm::virtio {

/// virtio-net (VirtIO 1.2, 5.1) between the driver's queues and a backend: one system call for a frame, straight
/// between guest memory and the host. As many queue pairs as the backend keeps apart, all on one loop; a control queue
/// when there is something to control. Event-loop thread.
class Net final : public VirtioDevice {
 public:
  static constexpr std::uint16_t queue_size = 256;
  /// Frames that one wake moves in one direction before the driver hears of them and others get their turn.
  static constexpr int max_batch = 64;

  Net(std::unique_ptr<NetBackend> backend, const net::MacAddress& mac);

  std::uint32_t type() const noexcept override { return device_id::net; }
  std::uint64_t features() const noexcept override;
  /// Receive and transmit queue of each pair, then the control queue.
  std::span<const std::uint16_t> queue_sizes() const noexcept override { return queue_sizes_; }
  void read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept override;
  void activate(Activation activation) noexcept override;
  void on_notify(std::uint16_t queue) noexcept override;
  void reset() noexcept override;

 private:
  struct Pair {
    std::optional<NetRx> rx;
    std::optional<Virtqueue> tx;
  };

  void serve_rx(std::uint16_t pair) noexcept;
  void serve_tx(std::uint16_t pair) noexcept;
  void serve_control() noexcept;

  bool transmit(std::uint16_t pair) noexcept;
  std::uint32_t execute(const DescriptorChain& chain) noexcept;
  bool obey(std::span<const std::byte> command) noexcept;
  bool use_pairs(std::uint16_t pairs) noexcept;
  bool set_guest_offloads(std::uint64_t offloads) noexcept;
  std::size_t largest_frame(std::uint64_t offloads) const noexcept;

  std::unique_ptr<NetBackend> backend_;
  net::MacAddress mac_;
  std::vector<std::uint16_t> queue_sizes_;
  log::FaultLimit faults_;

  // While active.
  std::optional<Activation> active_;  // without its queues
  std::uint16_t control_index_ = 0;
  std::uint16_t used_pairs_ = 0;
  std::vector<Pair> pairs_;
  std::optional<Virtqueue> control_;
  DescriptorChain chain_;
  std::array<iovec, DescriptorChain::max_buffers> frame_{};
};

}  // namespace minivm::virtio

#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "devices/virtio/device.h"
#include "devices/virtio/request_queues.h"
#include "devices/virtio/spec.h"

namespace minivm::virtio {

/// virtio-rng (VirtIO 1.2, 5.4): fills the driver's buffers from the host's getrandom(2), at most `max_bytes` of each
/// request. Event-loop thread.
class Rng final : public VirtioDevice {
 public:
  static constexpr std::size_t max_bytes = std::size_t{64} << 10;
  static constexpr std::uint16_t queue_size = 64;

  std::uint32_t type() const noexcept override { return device_id::rng; }
  std::uint64_t features() const noexcept override {
    return feature::version_1 | feature::indirect_desc | feature::event_idx;
  }
  std::span<const std::uint16_t> queue_sizes() const noexcept override { return queue_sizes_; }
  void read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept override {
    copy_config({}, offset, data);
  }
  void activate(Activation activation) noexcept override { requests_.activate(std::move(activation)); }
  void on_notify(std::uint16_t queue) noexcept override;
  void reset() noexcept override { requests_.reset(); }

 private:
  static constexpr std::array queue_sizes_{queue_size};

  RequestQueues requests_;
};

}  // namespace minivm::virtio

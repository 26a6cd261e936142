#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/log.h"
#include "devices/virtio/device.h"
#include "devices/virtio/disk_image.h"
#include "devices/virtio/request_queue.h"
#include "devices/virtio/spec.h"

namespace minivm::virtio {

/// virtio-blk (VirtIO 1.2, 5.2) over one raw image: each request is one preadv or pwritev between the image and guest
/// memory, on the device's event-loop thread, which may block in it. Give a disk its own loop.
/// Writes are cached until the driver flushes; a driver without FLUSH gets each write on stable storage (5.2.5.2).
class Blk final : public VirtioDevice {
 public:
  static constexpr std::uint16_t queue_size = 256;

  /// `id` names the disk to the guest (/dev/disk/by-id/virtio-ID): the first 20 bytes of it.
  Blk(DiskImage image, std::string_view id);

  std::uint32_t type() const noexcept override { return device_id::blk; }
  std::uint64_t features() const noexcept override;
  std::span<const std::uint16_t> queue_sizes() const noexcept override { return queue_sizes_; }
  void read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept override;
  void activate(Activation activation) noexcept override;
  void on_notify(std::uint16_t queue) noexcept override;
  void reset() noexcept override { requests_.reset(); }

 private:
  enum class Direction : std::uint8_t { from_image, to_image };
  struct Outcome {
    blk::Status status = blk::Status::ok;
    std::uint64_t stored = 0;  // bytes written into guest memory
  };

  std::uint32_t execute(DescriptorChain& chain) noexcept;
  Outcome perform(const blk::RequestHeader& header, DescriptorChain& chain) noexcept;
  Outcome transfer(Direction direction, std::uint64_t sector, std::span<iovec> data) noexcept;
  Outcome flush() noexcept;
  Outcome io_error(std::string_view step, std::uint64_t offset) noexcept;

  static constexpr std::array queue_sizes_{queue_size};

  DiskImage image_;
  std::array<std::byte, blk::id_size> id_{};
  bool write_through_ = false;
  RequestQueue requests_;
  log::FaultLimit host_faults_;
};

}  // namespace minivm::virtio

#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/event_loop.h"
#include "base/log.h"
#include "devices/rate_limit.h"
#include "devices/virtio/device.h"
#include "devices/virtio/disk_image.h"
#include "devices/virtio/disk_operation.h"
#include "devices/virtio/disk_ring.h"
#include "devices/virtio/request_queues.h"
#include "devices/virtio/spec.h"

namespace minivm::virtio {

/// virtio-blk (VirtIO 1.2, 5.2) over one raw image, on the thread of `loop`. What the host's page cache can answer is
/// answered on the spot, by one preadv or pwritev between the image and guest memory. What waits for the host's disk
/// goes through a DiskRing: reads of what is not in the cache, everything of a disk that bypasses the cache, and
/// flushes once there is a ring. Discards, and on hosts without io_uring all of this, block the loop: give a disk its
/// own.
///
/// Writes are cached until the driver flushes; a driver without FLUSH, or one that switched the cache off, gets each
/// write on stable storage (5.2.5.2). A flush covers every write that was answered before it began.
class Blk final : public VirtioDevice {
 public:
  static constexpr std::uint16_t queue_size = 256;
  static constexpr std::uint16_t max_queues = 8;
  /// What one request may ask for.
  static constexpr std::uint32_t max_discard_sectors = 1U << 22;
  static constexpr std::uint32_t max_discard_ranges = 16;
  static constexpr std::uint32_t max_write_zeroes_sectors = 1U << 17;
  static constexpr std::uint32_t max_write_zeroes_ranges = 1;

  struct Options {
    std::uint16_t queues = 1;  // at most max_queues count
    RateLimit limit;
    /// How often to look whether the image has another size, while the driver is there to be told. Asking is cheap; to
    /// be told, by inotify, costs tens of milliseconds at the end.
    std::chrono::milliseconds size_check{2000};
  };

  /// `id` names the disk to the guest (/dev/disk/by-id/virtio-ID): the first 20 bytes of it. `loop` outlives the
  /// device.
  Blk(DiskImage image, std::string_view id, EventLoop& loop, const Options& options);
  ~Blk() override;
  Blk(const Blk&) = delete;
  Blk& operator=(const Blk&) = delete;

  std::uint32_t type() const noexcept override { return device_id::blk; }
  std::uint64_t features() const noexcept override;
  std::span<const std::uint16_t> queue_sizes() const noexcept override { return queue_sizes_; }
  void features_accepted(std::uint64_t features) noexcept override;
  void read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept override;
  void write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept override;
  std::uint32_t config_generation() const noexcept override { return config_.generation(); }
  void activate(Activation activation) noexcept override;
  void on_notify(std::uint16_t queue) noexcept override;
  void reset() noexcept override;

 private:
  using Answer = std::optional<std::uint32_t>;  // as RequestQueues::serve takes it

  /// Where the answer to a request goes.
  struct Request {
    std::uint16_t queue = 0;
    std::uint16_t head = 0;
    std::byte* status = nullptr;
  };
  /// A request in the ring.
  struct Waiting : DiskOperation {
    Request request;
    std::vector<iovec> parts;  // what `data` is a part of
  };

  Answer execute(std::uint16_t queue, DescriptorChain& chain) noexcept;
  Answer perform(const Request& request, const blk::RequestHeader& header, DescriptorChain& chain) noexcept;
  Answer transfer(const Request& request, DiskOperation::Kind kind, std::uint64_t sector,
                  std::span<iovec> data) noexcept;
  Answer flush(const Request& request) noexcept;
  blk::Status release(std::uint32_t type, std::span<const iovec> data) noexcept;
  blk::Status judge(std::uint32_t type, std::span<const blk::Range> ranges) const noexcept;
  bool covers(std::uint64_t sector, std::uint64_t count) const noexcept;
  bool write_through() const noexcept;

  Answer start(const Request& request, DiskOperation operation) noexcept;
  bool ends_here(DiskOperation& operation) noexcept;
  bool ring_ready() noexcept;
  Waiting& take_waiting();
  void submit() noexcept;
  void on_ring() noexcept;
  std::uint32_t finish(const Request& request, const DiskOperation& operation) noexcept;
  std::uint32_t answer(const Request& request, blk::Status status, std::uint64_t stored = 0) noexcept;

  bool may_begin() noexcept;
  void check_size() noexcept;
  void log_failure(std::string_view step, std::uint64_t offset, int error) noexcept;

  EventLoop& loop_;
  DiskImage image_;
  std::vector<std::uint16_t> queue_sizes_;
  std::array<std::byte, blk::id_size> id_{};
  ConfigSpace<blk::Config> config_;
  std::atomic<bool> cache_switchable_{false};  // CONFIG_WCE is accepted, and means something
  std::atomic<bool> write_back_{true};         // the driver's wish
  std::uint64_t accepted_ = 0;                 // features
  bool can_discard_ = true;                    // until the host says otherwise
  RateLimiter limiter_;
  EventLoop::TimerId limit_timer_ = 0;
  std::chrono::milliseconds size_check_;
  EventLoop::TimerId size_timer_ = 0;
  log::FaultLimit host_faults_;
  RequestQueues requests_;
  std::vector<std::unique_ptr<Waiting>> waiting_;  // every one that was ever needed at once
  std::vector<Waiting*> free_;
  DiskRing ring_;  // last: it may still use what `waiting_` holds
};

}  // namespace minivm::virtio

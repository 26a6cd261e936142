#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "base/guest_memory.h"
#include "devices/virtio/config_space.h"
#include "devices/virtio/device.h"
#include "devices/virtio/request_queues.h"
#include "devices/virtio/spec.h"

namespace minivm::virtio {

/// What the guest says of its memory, by balloon::Tag; nothing where it does not say.
using MemoryStatistics = std::array<std::optional<std::uint64_t>, balloon::tag_count>;

/// virtio-balloon (VirtIO 1.2, 5.5). Its point is free page reporting: the guest names pages that it does not use, and
/// the host takes them back until they are touched again. The guest may name any page of its RAM, used or not, and so
/// ruin itself alone: what it reads there afterwards is zeroes.
/// Event-loop thread, but for configuration space.
class Balloon final : public VirtioDevice {
 public:
  /// What one request may cost: the page numbers that are looked at, the statistics that are read. The rest is taken
  /// as said and not acted on.
  static constexpr std::size_t max_pages = 1024;
  static constexpr std::size_t max_statistics = 64;
  /// Huge pages that are split, for good, because the guest reported a part of them: each may make two mappings of the
  /// process more. Of any other, what is reported in parts stays.
  static constexpr std::size_t max_split = 16;

  using OnStatistics = std::function<void(const MemoryStatistics&)>;

  /// `memory` outlives the device. The guest is asked to give `target` bytes of it to the host, which it takes back
  /// by itself before it has to kill for memory.
  explicit Balloon(const GuestMemory& memory, std::uint64_t target = 0) noexcept
      : memory_(memory), config_({.num_pages = static_cast<std::uint32_t>(target / balloon::page_size)}) {}

  std::uint32_t type() const noexcept override { return device_id::balloon; }
  std::uint64_t features() const noexcept override;
  std::span<const std::uint16_t> queue_sizes() const noexcept override { return queue_sizes_; }
  void read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept override {
    config_.read(offset, data);
  }
  void write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept override;
  std::uint32_t config_generation() const noexcept override { return config_.generation(); }

  void activate(Activation activation) noexcept override;
  void on_notify(std::uint16_t queue) noexcept override;
  void reset() noexcept override;

  /// Asks the guest for its statistics; `on_statistics` gets them once. False when the guest has no driver that would
  /// answer, or has not answered the last time.
  bool request_statistics(OnStatistics on_statistics);
  /// Bytes that the guest says it has given. Any thread.
  std::uint64_t given() const noexcept;

 private:
  std::uint32_t inflate(const DescriptorChain& chain) const noexcept;
  void serve_statistics() noexcept;
  void serve_reports() noexcept;
  void release_reported(std::byte* start, std::size_t size) noexcept;
  bool split(std::byte* huge_page) noexcept;
  std::uint32_t field(std::uint64_t offset) const noexcept;

  // The reporting queue's number is 4, but Linux counts only the queues whose features were negotiated, and so gets to
  // 3 or 2: of the free page hints' queue, which is never offered, and of the statistics' queue, nothing comes.
  static constexpr std::array<std::uint16_t, 5> queue_sizes_{128, 128, 16, 32, 32};

  const GuestMemory& memory_;
  ConfigSpace<balloon::Config> config_;
  RequestQueues requests_;
  std::uint16_t reporting_ = 0;                 // the reporting queue; 0: there is none
  std::optional<std::uint16_t> statistics_in_;  // the driver's buffer, held until the next request
  OnStatistics on_statistics_;
  std::array<std::byte*, max_split> split_{};
  std::size_t split_count_ = 0;
  DescriptorChain chain_;
};

}  // namespace minivm::virtio

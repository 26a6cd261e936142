#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/guest_memory.h"
#include "base/log.h"
#include "devices/virtio/spec.h"

namespace minivm::virtio {

/// What the driver wrote to a queue's registers. Nothing in it is trusted.
struct QueueConfig {
  std::uint16_t size = 0;
  bool ready = false;
  Gpa descriptor_table{};
  Gpa available_ring{};
  Gpa used_ring{};
};

/// Why a queue cannot be used; each is the driver's fault.
enum class QueueError : std::uint8_t {
  bad_size,           // zero, above the maximum, or not a power of two (2.7)
  misaligned,         // descriptor table 16, avail ring 2, used ring 4 (2.7)
  outside_memory,     // a ring is not wholly in RAM
  available_overrun,  // the avail index is ahead by more than the queue's size
  bad_head,           // an avail ring entry names no descriptor, so it cannot be returned either
  head_in_use,        // a chain is made available again before it was returned
  malformed_chains,   // nothing but malformed chains, too many of them in a row
};
std::string_view describe(QueueError error) noexcept;

/// One request of the driver, checked as a whole and once: every buffer in RAM, readable before writable, no loop,
/// no nested table, below 4 GiB. Empty buffers are left out. Reused from pop to pop: the list keeps its storage.
class DescriptorChain {
 public:
  /// The longest chain, in buffers: no longer than one preadv or pwritev takes (IOV_MAX). Devices offer no larger
  /// queues; an indirect table may be longer than its queue (Linux makes such), up to this.
  static constexpr std::size_t max_buffers = 1024;

  DescriptorChain() { buffers_.reserve(max_buffers); }

  /// Names the chain in the used ring.
  std::uint16_t head() const noexcept { return head_; }
  /// What the driver wrote for the device, in order.
  std::span<const iovec> readable() const noexcept { return std::span(buffers_).first(readable_count_); }
  /// What the device may write, in order.
  std::span<const iovec> writable() const noexcept { return std::span(buffers_).subspan(readable_count_); }
  /// The same lists for a device that consumes them in place; the sizes keep telling the whole.
  std::span<iovec> readable() noexcept { return std::span(buffers_).first(readable_count_); }
  std::span<iovec> writable() noexcept { return std::span(buffers_).subspan(readable_count_); }
  std::uint64_t readable_size() const noexcept { return readable_size_; }
  std::uint64_t writable_size() const noexcept { return writable_size_; }

 private:
  friend class Virtqueue;

  void begin(std::uint16_t head) noexcept;
  bool append(const Descriptor& descriptor, const GuestMemory& memory) noexcept;

  std::uint16_t head_ = 0;
  std::vector<iovec> buffers_;  // the readable ones, then the writable ones
  std::size_t readable_count_ = 0;
  std::uint64_t readable_size_ = 0;
  std::uint64_t writable_size_ = 0;
};

/// A live split virtqueue (VirtIO 1.2, 2.7), device side. Owned by the device's event-loop thread.
/// A malformed chain is returned to the driver at once with length zero and skipped; only avail ring contents that
/// make no sense break the queue for good.
class Virtqueue {
 public:
  /// So many malformed chains in a row break the queue: no driver may keep `pop` busy for ever.
  static constexpr std::uint32_t max_malformed_in_a_row = 1024;

  /// The one door from register values to a live queue. `features` are the acknowledged ones: ring features
  /// (INDIRECT_DESC, EVENT_IDX) are taken from there.
  static std::expected<Virtqueue, QueueError> create(const QueueConfig& config, std::uint16_t max_size,
                                                     std::uint64_t features, const GuestMemory& memory) noexcept;

  std::uint16_t size() const noexcept { return size_; }

  /// Takes the next available chain. False when there is none, or when the queue is broken.
  bool pop(DescriptorChain& chain) noexcept;
  /// Gives the chain that was popped last back to the ring, as if it had not been popped.
  void undo_pop() noexcept;
  /// Returns a chain to the driver; `written` counts the bytes stored into its writable part (2.7.8.2).
  void push_used(std::uint16_t head, std::uint32_t written) noexcept {
    stage_used(head, written);
    publish_used();
  }
  /// The same for chains that the driver must see together or may see late: all of them at `publish_used`.
  void stage_used(std::uint16_t head, std::uint32_t written) noexcept;
  void publish_used() noexcept;

  /// Tells the driver that notifications are of no use while the device is draining anyway: a hint.
  void disable_notifications() noexcept;
  /// Asks for the next notification. True when chains became available meanwhile: drain again (2.7.10).
  bool enable_notifications() noexcept;
  /// Whether what was pushed since the last call deserves an interrupt (2.7.7.2, 2.7.10).
  bool needs_interrupt() noexcept;

  /// Set by `pop` when the driver broke the ring; it stays set.
  bool broken() const noexcept { return fault_.has_value(); }
  std::optional<QueueError> fault() const noexcept { return fault_; }

 private:
  Virtqueue() = default;
  bool read_chain(std::uint16_t head, DescriptorChain& chain) const noexcept;
  bool skip_malformed(std::uint16_t head) noexcept;
  bool break_down(QueueError error) noexcept;

  const GuestMemory* memory_ = nullptr;
  const std::byte* descriptor_table_ = nullptr;
  std::byte* available_ring_ = nullptr;
  std::byte* used_ring_ = nullptr;
  std::uint16_t size_ = 0;
  bool indirect_ = false;
  bool event_idx_ = false;

  std::uint16_t next_available_ = 0;
  std::uint16_t next_used_ = 0;
  std::uint16_t last_considered_used_ = 0;  // used idx at the last decision about an interrupt
  std::vector<bool> in_use_;                // heads that were popped and not pushed yet
  std::uint16_t last_popped_ = 0;
  std::uint32_t malformed_in_a_row_ = 0;
  std::optional<QueueError> fault_;
  std::unique_ptr<log::FaultLimit> fault_log_;
};

}  // namespace minivm::virtio

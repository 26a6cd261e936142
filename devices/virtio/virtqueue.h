#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>
#include <vector>

#include "base/guest_memory.h"

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
  bad_size,            // zero, above the maximum, or not a power of two (2.7)
  misaligned,          // descriptor table 16, avail ring 2, used ring 4 (2.7)
  outside_memory,      // a ring is not wholly in RAM
  available_overrun,   // the avail index is ahead by more than the queue's size
};
std::string_view describe(QueueError error) noexcept;

/// One request of the driver, checked as a whole and once: every buffer in RAM, readable before writable, no loop,
/// no nested table, at most 4 GiB. Reused from pop to pop so that the lists keep their storage.
class DescriptorChain {
 public:
  /// Names the chain in the used ring.
  std::uint16_t head() const noexcept { return head_; }
  /// What the driver wrote for the device, in order.
  std::span<const iovec> readable() const noexcept { return readable_; }
  /// What the device may write, in order.
  std::span<const iovec> writable() const noexcept { return writable_; }
  std::uint64_t readable_size() const noexcept { return readable_size_; }
  std::uint64_t writable_size() const noexcept { return writable_size_; }

 private:
  friend class Virtqueue;

  std::uint16_t head_ = 0;
  std::vector<iovec> readable_;
  std::vector<iovec> writable_;
  std::uint64_t readable_size_ = 0;
  std::uint64_t writable_size_ = 0;
};

/// A live split virtqueue (VirtIO 1.2, 2.7), device side. Owned by the device's event-loop thread.
/// A malformed chain is returned to the driver at once with length zero and skipped; only an avail index that makes
/// no sense breaks the queue for good.
class Virtqueue {
 public:
  /// An indirect table may be longer than the queue (Linux does it), up to this many descriptors.
  static constexpr std::size_t max_indirect_descriptors = 1024;

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
  void push_used(std::uint16_t head, std::uint32_t written) noexcept;

  /// Asks the driver to notify (or not to, while the device is draining anyway).
  void disable_notifications() noexcept;
  /// True when chains became available meanwhile: drain again (2.7.10).
  bool enable_notifications() noexcept;
  /// Whether what was pushed since the last call deserves an interrupt (2.7.7.2, 2.7.10).
  bool needs_interrupt() noexcept;

  /// Set by `pop` when the driver broke the ring; it stays set.
  bool broken() const noexcept { return broken_; }

 private:
  Virtqueue() = default;
  // The author of virtqueue.cc completes this part.
  std::uint16_t size_ = 0;
  bool broken_ = false;
};

}  // namespace minivm::virtio

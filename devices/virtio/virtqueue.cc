#include "devices/virtio/virtqueue.h"

#include <atomic>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

namespace minivm::virtio {
namespace {

// `create` has checked the alignment of the rings, and regions begin on page boundaries.
std::atomic_ref<std::uint16_t> ring_field(std::byte* ring, std::uint64_t offset) noexcept {
  return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(ring + offset));
}

// An indirect table may lie at any address, so a descriptor is copied bytewise.
Descriptor read_descriptor(const std::byte* table, std::size_t index) noexcept {
  Descriptor descriptor;
  std::memcpy(&descriptor, table + index * sizeof descriptor, sizeof descriptor);
  // The compiler must not fetch again later what the driver may have changed after it was judged.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return descriptor;
}

}  // namespace

std::string_view describe(QueueError error) noexcept {
  switch (error) {
    case QueueError::bad_size:
      return "queue size is zero, too large or not a power of two";
    case QueueError::misaligned:
      return "a ring is misaligned";
    case QueueError::outside_memory:
      return "a ring is not in guest memory";
    case QueueError::available_overrun:
      return "the available index is ahead by more than the queue size";
    case QueueError::bad_head:
      return "the available ring names a descriptor beyond the table";
    case QueueError::head_in_use:
      return "the available ring names a descriptor chain that the device has not returned yet";
    case QueueError::malformed_chains:
      return "too many malformed descriptor chains in a row";
  }
  return "unknown queue error";
}

void DescriptorChain::begin(std::uint16_t head) noexcept {
  head_ = head;
  buffers_.clear();
  readable_count_ = 0;
  readable_size_ = 0;
  writable_size_ = 0;
}

bool DescriptorChain::append(const Descriptor& descriptor, const GuestMemory& memory) noexcept {
  const bool writable = (descriptor.flags & Descriptor::write_flag) != 0;
  // VirtIO 1.2, 2.7.4.2: device-readable buffers come first.
  if (!writable && writable_size_ != 0) return false;
  if (descriptor.length == 0) return true;
  const auto bytes = memory.slice(Gpa{descriptor.address}, descriptor.length);
  if (!bytes || buffers_.size() == max_buffers) return false;
  buffers_.push_back({bytes->data(), bytes->size()});
  if (!writable) ++readable_count_;
  (writable ? writable_size_ : readable_size_) += bytes->size();
  // VirtIO 1.2, 2.7.5.2: no chain is longer than 2^32 bytes; a used length has 32 bits.
  return readable_size_ + writable_size_ <= std::numeric_limits<std::uint32_t>::max();
}

std::expected<Virtqueue, QueueError> Virtqueue::create(const QueueConfig& config, std::uint16_t max_size,
                                                       std::uint64_t features, const GuestMemory& memory) noexcept {
  if (config.size > max_size || !std::has_single_bit(config.size)) return std::unexpected(QueueError::bad_size);
  if (raw(config.descriptor_table) % descriptor_table_alignment != 0 ||
      raw(config.available_ring) % available_ring_alignment != 0 || raw(config.used_ring) % used_ring_alignment != 0) {
    return std::unexpected(QueueError::misaligned);
  }
  // Both rings end with an event field, used or not (VirtIO 1.2, 2.7).
  const auto descriptors = memory.slice(config.descriptor_table, sizeof(Descriptor) * config.size);
  const auto available = memory.slice(config.available_ring, used_event_offset(config.size) + sizeof(std::uint16_t));
  const auto used = memory.slice(config.used_ring, available_event_offset(config.size) + sizeof(std::uint16_t));
  if (!descriptors || !available || !used) return std::unexpected(QueueError::outside_memory);

  Virtqueue queue;
  queue.memory_ = &memory;
  queue.descriptor_table_ = descriptors->data();
  queue.available_ring_ = available->data();
  queue.used_ring_ = used->data();
  queue.size_ = config.size;
  queue.in_use_.resize(config.size);
  queue.indirect_ = (features & feature::indirect_desc) != 0;
  queue.event_idx_ = (features & feature::event_idx) != 0;
  queue.fault_log_ = std::make_unique<log::FaultLimit>();
  return queue;
}

bool Virtqueue::pop(DescriptorChain& chain) noexcept {
  while (!fault_) {
    // Acquire: pairs with the driver's barrier before idx; the entry and its descriptors are read after it.
    const std::uint16_t idx = ring_field(available_ring_, available_idx_offset).load(std::memory_order_acquire);
    const auto waiting = static_cast<std::uint16_t>(idx - next_available_);
    if (waiting == 0) return false;
    if (waiting > size_) return break_down(QueueError::available_overrun);
    const std::uint64_t entry = available_entries_offset + sizeof(std::uint16_t) * (next_available_ % size_);
    const std::uint16_t head = ring_field(available_ring_, entry).load(std::memory_order_relaxed);
    ++next_available_;
    if (head < size_ && in_use_[head]) return break_down(QueueError::head_in_use);
    if (read_chain(head, chain)) {
      in_use_[head] = true;
      last_popped_ = head;
      malformed_in_a_row_ = 0;
      return true;
    }
    if (!skip_malformed(head)) return false;
  }
  return false;
}

// VirtIO 1.2, 2.7.5: follows a chain through the descriptor table and, from its last descriptor, an indirect one.
bool Virtqueue::read_chain(std::uint16_t head, DescriptorChain& chain) const noexcept {
  chain.begin(head);
  const std::byte* table = descriptor_table_;
  std::size_t table_size = size_;
  std::size_t index = head;
  bool in_indirect = false;
  // A chain that visits more descriptors than its table holds is a loop.
  std::size_t left = table_size;
  while (left-- > 0 && index < table_size) {
    const Descriptor descriptor = read_descriptor(table, index);
    const bool more = (descriptor.flags & Descriptor::next_flag) != 0;
    if ((descriptor.flags & Descriptor::indirect_flag) == 0) {
      if (!chain.append(descriptor, *memory_)) return false;
      if (!more) return true;
      index = descriptor.next;
      continue;
    }
    // VirtIO 1.2, 2.7.5.3: only when negotiated, not nested, not together with NEXT; WRITE is to be ignored.
    if (!indirect_ || in_indirect || more) return false;
    table_size = descriptor.length / sizeof(Descriptor);
    if (descriptor.length % sizeof(Descriptor) != 0 || table_size > DescriptorChain::max_buffers) return false;
    const auto bytes = memory_->slice(Gpa{descriptor.address}, descriptor.length);
    if (!bytes) return false;
    table = bytes->data();
    left = table_size;
    index = 0;
    in_indirect = true;
  }
  return false;
}

// Hands a chain back that cannot be used, lest the driver waits for it for ever. False when this breaks the queue.
bool Virtqueue::skip_malformed(std::uint16_t head) noexcept {
  fault_log_->warning("virtqueue: descriptor chain {} is malformed", head);
  if (head >= size_) return break_down(QueueError::bad_head);
  if (++malformed_in_a_row_ > max_malformed_in_a_row) return break_down(QueueError::malformed_chains);
  push_used(head, 0);
  return true;
}

bool Virtqueue::break_down(QueueError error) noexcept {
  fault_ = error;
  fault_log_->warning("virtqueue: {}", describe(error));
  return false;
}

void Virtqueue::undo_pop() noexcept {
  --next_available_;
  in_use_[last_popped_] = false;
}

void Virtqueue::stage_used(std::uint16_t head, std::uint32_t written) noexcept {
  const UsedElement element{.id = head, .length = written};
  const std::uint64_t entry = used_entries_offset + sizeof element * (next_used_ % size_);
  std::memcpy(used_ring_ + entry, &element, sizeof element);
  ++next_used_;
  in_use_[head] = false;
}

void Virtqueue::publish_used() noexcept {
  // Release: the driver sees the elements and all that was written to the buffers before it sees the index.
  ring_field(used_ring_, used_idx_offset).store(next_used_, std::memory_order_release);
}

void Virtqueue::disable_notifications() noexcept {
  // With EVENT_IDX it is enough to let avail_event fall behind.
  if (!event_idx_) ring_field(used_ring_, 0).store(used_no_notify, std::memory_order_relaxed);
}

bool Virtqueue::enable_notifications() noexcept {
  // An exchange is a full barrier here: the driver writes idx, then reads our wish; we write our wish, then read idx.
  // One of the two sees the other. With no more than release and acquire both could miss.
  if (event_idx_) {
    ring_field(used_ring_, available_event_offset(size_)).exchange(next_available_, std::memory_order_seq_cst);
  } else {
    ring_field(used_ring_, 0).exchange(0, std::memory_order_seq_cst);
  }
  const std::uint16_t idx = ring_field(available_ring_, available_idx_offset).load(std::memory_order_seq_cst);
  return idx != next_available_ && !fault_;
}

bool Virtqueue::needs_interrupt() noexcept {
  const std::uint16_t old = std::exchange(last_considered_used_, next_used_);
  if (old == next_used_) return false;
  // The same pairing the other way round: our idx must be visible before the driver's wish is read.
  ring_field(used_ring_, used_idx_offset).exchange(next_used_, std::memory_order_seq_cst);
  if (!event_idx_) {
    return (ring_field(available_ring_, 0).load(std::memory_order_seq_cst) & available_no_interrupt) == 0;
  }
  // VirtIO 1.2, 2.7.7.2: whether used_event lies among the indexes that were passed.
  const std::uint16_t event = ring_field(available_ring_, used_event_offset(size_)).load(std::memory_order_seq_cst);
  return static_cast<std::uint16_t>(next_used_ - event - 1) < static_cast<std::uint16_t>(next_used_ - old);
}

}  // namespace minivm::virtio

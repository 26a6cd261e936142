#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/guest_memory.h"
#include "devices/virtio/spec.h"
#include "devices/virtio/virtqueue.h"

namespace minivm::test {

/// The driver's side of one split virtqueue (VirtIO 1.2, 2.7), laid out in a real GuestMemory:
///
///     FakeDriver driver(memory, Gpa{0x10000}, 16);
///     device.activate({.features = ..., .queues = queues(driver.activate(features)), .interrupt = &interrupt});
///     driver.readable(Header{...}).writable(512).writable(1).offer();
///     device.on_notify(0);
///     auto used = driver.take_used();   // used->written, used->bytes
///
/// Ring and buffers lie in [base, base + span); keep drivers of one memory apart.
class FakeDriver {
 public:
  static constexpr std::uint64_t default_span = 4 << 20;

  /// What the device returned: `bytes` is all of the chain's writable part, written or not.
  struct Used {
    std::uint16_t head = 0;
    std::uint32_t written = 0;
    std::vector<std::byte> bytes;
  };

  FakeDriver(GuestMemory& memory, Gpa base, std::uint16_t size, std::uint64_t span = default_span)
      : memory_(memory), base_(base), size_(size), next_buffer_(base + buffers_offset(size)), end_(base + span) {
    if (!memory.slice(base, span)) throw std::logic_error("fake driver: span is not in RAM");
    restart();
  }

  virtio::QueueConfig config() const {
    return {
        .size = size_, .ready = true, .descriptor_table = base_, .available_ring = available(), .used_ring = used()};
  }

  /// What a driver does that reset its device: empties the ring and begins anew.
  void restart() {
    const auto ring = memory_.slice(base_, buffers_offset(size_)).value();
    std::ranges::fill(ring, std::byte{0});
    next_buffer_ = base_ + buffers_offset(size_);
    next_available_ = last_notified_ = next_used_ = 0;
    building_.clear();
    chains_.clear();
    free_.clear();
    for (std::uint16_t index = size_; index-- > 0;) free_.push_back(index);
  }

  /// A live queue over this ring. `features` also tells the driver whether to use EVENT_IDX.
  virtio::Virtqueue activate(std::uint64_t features = virtio::feature::version_1) {
    event_idx_ = (features & virtio::feature::event_idx) != 0;
    return virtio::Virtqueue::create(config(), size_, features, memory_).value();
  }

  // A chain is built by naming its buffers, then offered.

  FakeDriver& readable(std::span<const std::byte> bytes) {
    const Gpa buffer = allocate(bytes.size());
    memory_.write_bytes(buffer, bytes);
    return buffer_at(buffer, static_cast<std::uint32_t>(bytes.size()), false);
  }
  template <typename T>
  requires(std::is_trivially_copyable_v<T> &&
           !std::is_convertible_v<const T&, std::span<const std::byte>>) FakeDriver& readable(const T& value) {
    return readable(std::as_bytes(std::span(&value, 1)));
  }
  FakeDriver& writable(std::uint32_t size) { return buffer_at(allocate(size), size, true); }
  /// A buffer anywhere, RAM or not.
  FakeDriver& buffer_at(Gpa address, std::uint32_t length, bool device_writes) {
    building_.push_back({raw(address), length, device_writes ? virtio::Descriptor::write_flag : std::uint16_t{0}, 0});
    return *this;
  }

  /// Makes the chain available; its head. Throws when the ring has no descriptors left.
  std::uint16_t offer() {
    if (free_.size() < building_.size()) throw std::logic_error("fake driver: ring is full");
    std::vector<std::uint16_t> indexes(free_.end() - static_cast<std::ptrdiff_t>(building_.size()), free_.end());
    free_.resize(free_.size() - building_.size());
    std::ranges::reverse(indexes);
    for (std::size_t i = 0; i < building_.size(); ++i) {
      virtio::Descriptor descriptor = building_[i];
      if (i + 1 < building_.size()) {
        descriptor.flags |= virtio::Descriptor::next_flag;
        descriptor.next = indexes[i + 1];
      }
      write_descriptor(indexes[i], descriptor);
    }
    return publish(std::move(indexes));
  }

  /// Makes the chain available through an indirect table (2.7.5.3), after `direct` of its buffers.
  std::uint16_t offer_indirect(std::size_t direct = 0) {
    const std::size_t count = building_.size() - direct;
    const Gpa table = allocate(count * sizeof(virtio::Descriptor));
    for (std::size_t i = 0; i < count; ++i) {
      virtio::Descriptor descriptor = building_[direct + i];
      if (i + 1 < count) {
        descriptor.flags |= virtio::Descriptor::next_flag;
        descriptor.next = static_cast<std::uint16_t>(i + 1);
      }
      memory_.write(table + i * sizeof descriptor, descriptor);
    }
    std::vector<virtio::Descriptor> whole = std::exchange(building_, {});
    building_.assign(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(direct));
    building_.push_back({raw(table), static_cast<std::uint32_t>(count * sizeof(virtio::Descriptor)),
                         virtio::Descriptor::indirect_flag, 0});
    const std::uint16_t head = offer();
    chains_[head].buffers = std::move(whole);
    return head;
  }

  /// The next chain that the device returned; its descriptors become free. Nothing when there is none.
  std::optional<Used> take_used() {
    if (next_used_ == load(used() + virtio::used_idx_offset)) return std::nullopt;
    const Gpa slot = used() + virtio::used_entries_offset + sizeof(virtio::UsedElement) * (next_used_ % size_);
    const auto element = memory_.read<virtio::UsedElement>(slot).value();
    ++next_used_;
    // Our wish must be visible before the device's idx is read again: an exchange is a full barrier (2.7.7.1).
    if (event_idx_) {
      field(available() + virtio::used_event_offset(size_)).exchange(next_used_, std::memory_order_seq_cst);
    }
    const auto head = static_cast<std::uint16_t>(element.id);
    Used result{head, element.length, {}};
    auto chain = chains_.extract(head);
    if (chain.empty()) return result;  // a head that was made available by hand
    for (const virtio::Descriptor& descriptor : chain.mapped().buffers) {
      if ((descriptor.flags & virtio::Descriptor::write_flag) == 0) continue;
      if (const auto bytes = memory_.slice(Gpa{descriptor.address}, descriptor.length)) {
        result.bytes.insert(result.bytes.end(), bytes->begin(), bytes->end());
      }
    }
    free_.insert(free_.end(), chain.mapped().indexes.begin(), chain.mapped().indexes.end());
    // Only when nothing is outstanding may buffers be handed out anew.
    if (chains_.empty() && building_.empty()) next_buffer_ = base_ + buffers_offset(size_);
    return result;
  }

  /// Whether the device wants to be notified about what was offered since the last call.
  bool should_notify() {
    // Our idx must be visible before the device's wish is read: an exchange is a full barrier (2.7.10).
    field(available() + virtio::available_idx_offset).exchange(next_available_, std::memory_order_seq_cst);
    const std::uint16_t old = std::exchange(last_notified_, next_available_);
    if (!event_idx_) return (load(used()) & virtio::used_no_notify) == 0;
    const std::uint16_t event = load(used() + virtio::available_event_offset(size_));
    return static_cast<std::uint16_t>(next_available_ - event - 1) < static_cast<std::uint16_t>(next_available_ - old);
  }
  /// Asks the device to interrupt or not: by flag, or with EVENT_IDX once used idx passes `used_event`.
  void suppress_interrupts(bool suppress) {
    store(available(), suppress ? virtio::available_no_interrupt : std::uint16_t{0});
  }
  void set_used_event(std::uint16_t used_event) { store(available() + virtio::used_event_offset(size_), used_event); }

  // For drivers that break the rules: raw access to the ring.

  void write_descriptor(std::uint16_t index, const virtio::Descriptor& descriptor) {
    memory_.write(base_ + sizeof descriptor * index, descriptor);
  }
  void make_available(std::uint16_t head) {
    store(available() + virtio::available_entries_offset + std::uint64_t{2} * (next_available_ % size_), head);
    set_available_idx(static_cast<std::uint16_t>(next_available_ + 1));
  }
  void set_available_idx(std::uint16_t idx) {
    next_available_ = idx;
    store(available() + virtio::available_idx_offset, idx);
  }
  std::uint16_t available_idx() const { return next_available_; }
  std::uint16_t used_idx() const { return load(used() + virtio::used_idx_offset); }
  std::uint16_t available_event() const { return load(used() + virtio::available_event_offset(size_)); }
  std::uint16_t used_flags() const { return load(used()); }

  /// Guest memory of `size` bytes for tables and buffers of the test's own making.
  Gpa allocate(std::uint64_t size) {
    const Gpa result = next_buffer_;
    next_buffer_ = next_buffer_ + (size + 15) / 16 * 16;
    if (raw(next_buffer_) > raw(end_)) throw std::logic_error("fake driver: out of buffer space");
    return result;
  }

 private:
  struct Chain {
    std::vector<std::uint16_t> indexes;
    std::vector<virtio::Descriptor> buffers;
  };

  static std::uint64_t align(std::uint64_t value) { return (value + 15) / 16 * 16; }
  static std::uint64_t available_offset(std::uint16_t size) { return sizeof(virtio::Descriptor) * size; }
  static std::uint64_t used_offset(std::uint16_t size) {
    return align(available_offset(size) + virtio::used_event_offset(size) + 2);
  }
  static std::uint64_t buffers_offset(std::uint16_t size) {
    return align(used_offset(size) + virtio::available_event_offset(size) + 2);
  }
  Gpa available() const { return base_ + available_offset(size_); }
  Gpa used() const { return base_ + used_offset(size_); }

  // Ring fields may be shared with a device on another thread.
  std::atomic_ref<std::uint16_t> field(Gpa gpa) const {
    return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(memory_.slice(gpa, 2).value().data()));
  }
  std::uint16_t load(Gpa gpa) const { return field(gpa).load(std::memory_order_acquire); }
  void store(Gpa gpa, std::uint16_t value) { field(gpa).store(value, std::memory_order_release); }

  std::uint16_t publish(std::vector<std::uint16_t> indexes) {
    const std::uint16_t head = indexes.at(0);
    chains_[head] = {std::move(indexes), std::exchange(building_, {})};
    make_available(head);
    return head;
  }

  GuestMemory& memory_;
  Gpa base_;
  std::uint16_t size_;
  Gpa next_buffer_;
  Gpa end_;
  bool event_idx_ = false;
  std::uint16_t next_available_ = 0;
  std::uint16_t last_notified_ = 0;
  std::uint16_t next_used_ = 0;
  std::vector<std::uint16_t> free_;
  std::vector<virtio::Descriptor> building_;
  std::map<std::uint16_t, Chain> chains_;
};

}  // namespace minivm::test

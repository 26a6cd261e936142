#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "base/guest_memory.h"
#include "devices/virtio/device.h"

namespace minivm::test {

/// A fuzzer's input as a run of choices; when it ends, every further one is 0.
class Choices {
 public:
  Choices(const std::uint8_t* data, std::size_t size) : rest_(std::as_bytes(std::span(data, size))) {}

  bool empty() const { return rest_.empty(); }
  template <typename T>
  T next() {
    T value{};
    const auto bytes = take(sizeof value);
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  /// A number below `limit`.
  std::size_t below(std::size_t limit) {
    return limit < 256 ? next<std::uint8_t>() % limit : next<std::uint32_t>() % limit;
  }
  bool flip() { return (next<std::uint8_t>() & 1) != 0; }
  std::span<const std::byte> take(std::size_t size) {
    const auto front = rest_.first(std::min(size, rest_.size()));
    rest_ = rest_.subspan(front.size());
    return front;
  }

 private:
  std::span<const std::byte> rest_;
};

/// The driver's side of a device that is out for trouble: a choice of moves, some of a good driver, most of none, over
/// real guest memory. Each queue's rings lie where they may; their contents are whatever the moves write.
class HostileDriver {
 public:
  static constexpr std::uint64_t memory_size = 1 << 20;
  static constexpr std::uint64_t buffers = 0x40000;  // what chains mostly point to
  static constexpr std::uint64_t buffers_size = 0x20000;
  static constexpr std::uint64_t ring_stride = 0x4000;  // for each queue
  static constexpr std::uint16_t max_size = 32;         // so that small inputs reach far

  HostileDriver(const GuestMemory& memory, Choices& choices, std::size_t queues)
      : memory_(memory), choices_(choices), queues_(queues) {
    // What a machine before left must not matter.
    const auto used = memory.slice(Gpa{0}, buffers + buffers_size).value();
    std::ranges::fill(used, std::byte{0});
  }

  /// Rings that a device may have been activated with.
  virtio::QueueConfig config(std::size_t queue, std::uint16_t device_max) {
    auto& state = queues_[queue];
    const auto largest = static_cast<unsigned>(std::countr_zero(std::min(max_size, std::bit_floor(device_max))));
    state = {.size = static_cast<std::uint16_t>(1U << choices_.below(largest + 1))};
    const Gpa base{queue * ring_stride};
    return {.size = state.size,
            .ready = true,
            .descriptor_table = base,
            .available_ring = base + 0x1000,
            .used_ring = base + 0x2000};
  }
  std::size_t queue_count() const { return queues_.size(); }
  std::uint16_t used_idx(std::size_t queue) const {
    return memory_.read<std::uint16_t>(Gpa{queue * ring_stride + 0x2000 + virtio::used_idx_offset}).value();
  }

  /// A request as a good driver makes it: `header`, then buffers of any kind. It begins at descriptor `head`.
  void offer(std::size_t queue, std::span<const std::byte> header) {
    const auto& state = queues_[queue];
    if (state.size == 0) return;
    const std::size_t parts = 1 + choices_.below(4);
    auto index = static_cast<std::uint16_t>(choices_.below(state.size));
    const std::uint16_t head = index;
    const Gpa where{buffers + choices_.below(64) * 64};
    memory_.write_bytes(where, header);
    write_descriptor(queue, index,
                     {raw(where), static_cast<std::uint32_t>(header.size()), virtio::Descriptor::next_flag,
                      following(queue, index)});
    for (std::size_t part = 0; part < parts; ++part) {
      index = following(queue, index);
      const std::uint8_t shape = choices_.next<std::uint8_t>();
      const bool last = part + 1 == parts;
      const std::uint32_t length = last && (shape & 4) == 0 ? 1 : choices_.next<std::uint16_t>() % 4097U;
      const auto flags = static_cast<std::uint16_t>((last ? 0 : virtio::Descriptor::next_flag) |
                                                    ((shape & 1) != 0 || last ? virtio::Descriptor::write_flag : 0));
      write_descriptor(queue, index, {buffers + choices_.below(512) * 128, length, flags, following(queue, index)});
    }
    make_available(queue, head);
  }

  /// Any move on any queue's memory.
  void misbehave() {
    const std::size_t queue = choices_.below(queues_.size());
    const auto& state = queues_[queue];
    if (state.size == 0) return;
    switch (choices_.below(7)) {
      case 0:
        return write_descriptor(queue, static_cast<std::uint16_t>(choices_.below(state.size)), any_descriptor());
      case 1:
        return make_available(queue, static_cast<std::uint16_t>(choices_.below(state.size)));
      case 2:
        return make_available(queue, choices_.next<std::uint16_t>());
      case 3:  // an idx from nowhere
        return set_available_idx(queue, choices_.next<std::uint16_t>());
      case 4:  // used_event, or no interrupts
        memory_.write(available(queue) + virtio::used_event_offset(state.size), choices_.next<std::uint16_t>());
        memory_.write(available(queue), choices_.next<std::uint16_t>());
        return;
      case 5:  // contents of buffers, indirect tables among them
        memory_.write_bytes(Gpa{buffers + choices_.below(1024) * 16}, choices_.take(1 + choices_.below(48)));
        return;
      default: {
        const virtio::Descriptor descriptor = any_descriptor();
        memory_.write(Gpa{buffers + choices_.below(64) * 16}, descriptor);
        return;
      }
    }
  }

  void make_available(std::size_t queue, std::uint16_t head) {
    auto& state = queues_[queue];
    memory_.write(
        available(queue) + virtio::available_entries_offset + std::uint64_t{2} * (state.available % state.size), head);
    set_available_idx(queue, static_cast<std::uint16_t>(state.available + 1));
  }

 private:
  struct Queue {
    std::uint16_t size = 0;
    std::uint16_t available = 0;
  };

  Gpa available(std::size_t queue) const { return Gpa{queue * ring_stride + 0x1000}; }
  std::uint16_t following(std::size_t queue, std::uint16_t index) const {
    return static_cast<std::uint16_t>((index + 1) % queues_[queue].size);
  }
  void write_descriptor(std::size_t queue, std::uint16_t index, const virtio::Descriptor& descriptor) {
    memory_.write(Gpa{queue * ring_stride + sizeof descriptor * index}, descriptor);
  }
  void set_available_idx(std::size_t queue, std::uint16_t idx) {
    queues_[queue].available = idx;
    memory_.write(available(queue) + virtio::available_idx_offset, idx);
  }
  virtio::Descriptor any_descriptor() {
    virtio::Descriptor descriptor;
    switch (choices_.below(5)) {
      case 0:  // around the end of RAM
        descriptor.address = memory_size - choices_.below(64) * 16 + 16;
        break;
      case 1:
        descriptor.address = choices_.next<std::uint64_t>();
        break;
      default:
        descriptor.address = buffers + choices_.below(2048) * 16;
        break;
    }
    descriptor.length =
        choices_.flip() ? static_cast<std::uint32_t>(choices_.below(64)) * 16 : choices_.next<std::uint32_t>();
    descriptor.flags = choices_.next<std::uint8_t>() & 7;
    descriptor.next =
        choices_.flip() ? static_cast<std::uint16_t>(choices_.below(max_size)) : choices_.next<std::uint16_t>();
    return descriptor;
  }

  const GuestMemory& memory_;
  Choices& choices_;
  std::vector<Queue> queues_;
};

/// Lives a hostile driver's life with one device: negotiates, activates, makes moves, resets, until the input ends.
/// Runs the device's loop, on this thread, between the moves.
class HostileLife {
 public:
  /// What a device's own target adds: a header for `HostileDriver::offer`, or any other move.
  using Special = std::function<void(HostileDriver&, std::size_t queue)>;

  HostileLife(virtio::VirtioDevice& device, EventLoop& loop, const GuestMemory& memory, Choices& choices,
              Special special)
      : device_(device),
        loop_(loop),
        memory_(memory),
        choices_(choices),
        special_(std::move(special)),
        driver_(memory, choices, device.queue_sizes().size()) {}

  void run() {
    activate();
    loop_.post([this] { step(); });
    loop_.run();
    device_.reset();
  }

 private:
  void activate() {
    const std::uint64_t features = (device_.features() & choices_.next<std::uint64_t>()) | virtio::feature::version_1;
    device_.features_accepted(features);
    virtio::Activation activation{.features = features,
                                  .interrupt = &interrupt_,
                                  .needs_reset = [] {},
                                  .call_again = [this](std::uint16_t queue) { again_ |= std::uint64_t{1} << queue; }};
    enabled_ = 0;
    for (std::size_t queue = 0; queue < driver_.queue_count(); ++queue) {
      const std::uint16_t most = device_.queue_sizes()[queue];
      auto& live = activation.queues.emplace_back();
      if (choices_.below(16) == 15) continue;  // not enabled
      if (auto created = virtio::Virtqueue::create(driver_.config(queue, most), most, features, memory_)) {
        live = std::move(*created);
        enabled_ |= std::uint64_t{1} << queue;
      }
    }
    device_.activate(std::move(activation));
  }
  void notify(std::size_t queue) {
    if ((enabled_ >> queue & 1) != 0) device_.on_notify(static_cast<std::uint16_t>(queue));
  }

  // One move in each round of the loop.
  void step() {
    for (std::size_t queue = 0; queue < driver_.queue_count(); ++queue) {
      if ((std::exchange(again_, again_ & ~(std::uint64_t{1} << queue)) >> queue & 1) != 0) notify(queue);
    }
    if (choices_.empty()) return loop_.stop();
    const std::size_t queue = choices_.below(driver_.queue_count());
    switch (choices_.below(8)) {
      case 0:
      case 1:
        special_(driver_, queue);
        notify(queue);
        break;
      case 2:
        special_(driver_, queue);
        break;
      case 3:
      case 4:
        driver_.misbehave();
        break;
      case 5:
        notify(queue);
        break;
      case 6:
        touch_config();
        break;
      default:
        if (choices_.below(8) != 0) break;
        device_.reset();
        device_.features_accepted(0);
        activate();
        break;
    }
    loop_.post([this] { step(); });
  }
  void touch_config() {
    std::array<std::byte, 8> data{};
    const std::uint64_t offset = choices_.flip() ? choices_.below(80) : choices_.next<std::uint64_t>();
    const std::size_t size = 1 + choices_.below(data.size());
    device_.read_config(offset, std::span(data).first(size));
    const auto written = choices_.take(1 + choices_.below(4));
    if (!written.empty()) device_.write_config(offset, written);
  }

  virtio::VirtioDevice& device_;
  EventLoop& loop_;
  const GuestMemory& memory_;
  Choices& choices_;
  Special special_;
  HostileDriver driver_;
  virtio::InterruptLine interrupt_;
  std::uint64_t enabled_ = 0;  // a bit for each queue
  std::uint64_t again_ = 0;
};

/// RAM that serves every input of a target.
inline const GuestMemory& fuzz_memory() {
  static const GuestMemory memory(HostileDriver::memory_size);
  return memory;
}

}  // namespace minivm::test

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "devices/virtio/device.h"

namespace minivm::virtio {

/// The queues of a device that takes requests and answers each, on the spot or later. Event-loop thread.
class RequestQueues {
 public:
  /// Requests that one wake serves before the driver hears of them and the loop's other handlers get their turn.
  static constexpr int max_batch = 64;
  /// Queues of a device, at most: as many as a transport has room for.
  static constexpr std::size_t max_interrupting = 64;

  void activate(Activation activation) noexcept { active_ = std::move(activation); }
  void reset() noexcept { active_.reset(); }
  /// Nothing while the device is not active.
  const Activation* active() const noexcept { return active_ ? &*active_ : nullptr; }
  Activation* active() noexcept { return active_ ? &*active_ : nullptr; }

  /// Serves what is available in `index`: `execute(DescriptorChain&) noexcept` returns the bytes that it wrote into the
  /// chain, or nothing if `answer` will tell later. `may_begin() noexcept` is asked before each request; the device
  /// that says no serves the queue again when it can go on.
  template <typename MayBegin, typename Execute>
  void serve(std::uint16_t index, MayBegin&& may_begin, Execute&& execute) noexcept {
    if (!active_ || index >= active_->queues.size() || !active_->queues[index]) return;
    Virtqueue& queue = *active_->queues[index];
    queue.disable_notifications();
    int served = 0;
    bool begins = may_begin();
    while (begins && served < max_batch && queue.pop(chain_)) {
      const std::optional<std::uint32_t> written = execute(chain_);
      if (written) queue.push_used(chain_.head(), *written);
      ++served;
      begins = may_begin();
    }
    const bool more = begins && (served == max_batch || queue.enable_notifications());
    if (queue.needs_interrupt()) active_->interrupt->signal_used(index);
    if (more) active_->call_again(index);
    if (!queue.broken()) return;
    active_->needs_reset();
    active_->queues[index].reset();
  }
  /// For a queue whose requests always can begin; queue 0 where no other is named.
  template <typename Execute>
  void serve(std::uint16_t index, Execute&& execute) noexcept {
    serve(
        index, []() noexcept { return true; }, std::forward<Execute>(execute));
  }
  template <typename Execute>
  void serve(Execute&& execute) noexcept {
    serve(0, std::forward<Execute>(execute));
  }

  /// Answers a request whose `execute` returned nothing. A queue that broke meanwhile gets no answer.
  void answer(std::uint16_t index, std::uint16_t head, std::uint32_t written) noexcept {
    if (active_ && active_->queues[index]) active_->queues[index]->push_used(head, written);
  }
  /// One interrupt for all that was answered since the last one, if the driver wants it.
  void interrupt() noexcept {
    if (!active_) return;
    std::array<std::uint16_t, max_interrupting> wanted;
    std::size_t count = 0;
    for (std::uint16_t index = 0; index < active_->queues.size() && count < wanted.size(); ++index) {
      auto& queue = active_->queues[index];
      if (queue && queue->needs_interrupt()) wanted[count++] = index;
    }
    if (count > 0) active_->interrupt->signal_used(std::span(wanted).first(count));
  }

 private:
  std::optional<Activation> active_;
  DescriptorChain chain_;
};

}  // namespace minivm::virtio

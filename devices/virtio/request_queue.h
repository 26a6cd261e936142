#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "devices/virtio/device.h"

namespace minivm::virtio {

/// The one queue of a device that answers each request on the spot. Event-loop thread.
class RequestQueue {
 public:
  /// Requests that one wake serves before the driver hears of them and the loop's other handlers get their turn.
  static constexpr int max_batch = 64;

  void activate(Activation activation) noexcept { active_ = std::move(activation); }
  void reset() noexcept { active_.reset(); }

  /// Serves what is available: `execute(DescriptorChain&) noexcept` returns the bytes that it wrote into the chain.
  template <typename Execute>
  void serve(Execute&& execute) noexcept {
    if (!active_ || !active_->queues.at(0)) return;
    Virtqueue& queue = *active_->queues[0];
    queue.disable_notifications();
    int served = 0;
    while (served < max_batch && queue.pop(chain_)) {
      queue.push_used(chain_.head(), execute(chain_));
      ++served;
    }
    const bool more = served == max_batch || queue.enable_notifications();
    if (queue.needs_interrupt()) active_->interrupt->signal_used();
    if (more) active_->call_again(0);
    if (!queue.broken()) return;
    active_->needs_reset();
    active_->queues[0].reset();
  }

 private:
  std::optional<Activation> active_;
  DescriptorChain chain_;
};

}  // namespace minivm::virtio

#include "devices/virtio/console.h"

#include <algorithm>
#include <utility>

#include "devices/virtio/iovecs.h"

namespace minivm::virtio {
namespace {

// Buffers that one call serves before other handlers of the loop get their turn.
constexpr int max_batch = 64;

}  // namespace

Virtqueue* Console::queue(std::uint16_t index) noexcept {
  return active_ && active_->queues[index] ? &*active_->queues[index] : nullptr;
}

void Console::on_notify(std::uint16_t index) noexcept {
  Virtqueue* const live = queue(index);
  if (live == nullptr) return;
  if (index == console::transmit_queue) {
    transmit(*live);
  } else {
    receive(*live);
  }
  finish(index);
}

void Console::reset() noexcept {
  active_.reset();
  sending_ = false;
  unsent_ = {};
}

void Console::transmit(Virtqueue& queue) noexcept {
  queue.disable_notifications();
  int served = 0;
  for (; served < max_batch; ++served) {
    if (!sending_) {
      if (!queue.pop(sent_)) break;
      unsent_ = sent_.readable();
      sending_ = true;
    }
    // Notifications stay off: there is nothing to do before the sink has room.
    if (!write_out(unsent_)) return;
    sending_ = false;
    queue.push_used(sent_.head(), 0);
  }
  if (served == max_batch || queue.enable_notifications()) active_->call_again(console::transmit_queue);
}

/// True when all of `parts` is out; else what is left of them.
bool Console::write_out(std::span<iovec>& parts) const noexcept {
  while (!parts.empty()) {
    const std::size_t size = std::min(sink_.room(), parts.front().iov_len);
    if (size == 0) return false;
    sink_.write({static_cast<const std::byte*>(parts.front().iov_base), size});
    parts = drop_front(parts, size);
  }
  return true;
}

void Console::receive(Virtqueue& queue) noexcept {
  // Without input the guest's buffers wait in the ring, and there is no need to hear of more of them.
  queue.disable_notifications();
  if (input_.empty()) return;
  for (int served = 0; served < max_batch && !input_.empty() && queue.pop(received_); ++served) {
    const std::size_t size = store_front(received_.writable(), input_);
    input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(size));
    queue.push_used(received_.head(), static_cast<std::uint32_t>(size));
  }
  if (!input_.empty()) {
    if (queue.enable_notifications()) active_->call_again(console::receive_queue);
  } else if (on_room_) {
    on_room_();
  }
}

/// After a queue was served: one interrupt for all of it, or the end of a broken queue.
void Console::finish(std::uint16_t index) noexcept {
  Virtqueue& live = *active_->queues[index];
  if (live.needs_interrupt()) active_->interrupt->signal_used(index);
  if (live.broken()) {
    active_->needs_reset();
    active_->queues[index].reset();
    if (index == console::transmit_queue) sending_ = false;
  }
}

std::size_t Console::push_input(std::span<const std::byte> bytes) {
  const auto taken = bytes.first(std::min(bytes.size(), room()));
  input_.insert(input_.end(), taken.begin(), taken.end());
  on_notify(console::receive_queue);
  return taken.size();
}

void Console::resume_output() noexcept {
  if (sending_) on_notify(console::transmit_queue);
}

void Console::resize(std::uint16_t columns, std::uint16_t rows) noexcept {
  config_.update([&](console::Config& config) {
    config.cols = columns;
    config.rows = rows;
  });
  announce_size();
}

void Console::announce_size() noexcept {
  if (active_ && (active_->features & console::feature_size) != 0) active_->interrupt->signal_configuration();
}

}  // namespace minivm::virtio

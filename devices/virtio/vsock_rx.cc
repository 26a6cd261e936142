#include "devices/virtio/vsock_rx.h"

#include <algorithm>
#include <utility>

#include "devices/virtio/iovecs.h"

namespace minivm::virtio {
namespace {

constexpr std::uint64_t header_size = sizeof(vsock::PacketHeader);

/// A guest that posts useless buffers over and over must not keep the device busy.
constexpr int max_useless = 256;

}  // namespace

VsockRx::VsockRx(Virtqueue queue) : queue_(std::move(queue)) {
  space_.reserve(DescriptorChain::max_buffers);
  queue_.disable_notifications();
}

bool VsockRx::ready() noexcept { return count_ != 0 || hold_another(); }

bool VsockRx::hold_another() noexcept {
  if (count_ == max_held) return false;
  for (int useless = 0; useless < max_useless && queue_.pop(held(count_)); ++useless) {
    if (held(count_).writable_size() > header_size) {
      ++count_;
      return true;
    }
    queue_.push_used(held(count_).head(), 0);
  }
  return false;
}

std::span<const iovec> VsockRx::space(std::uint32_t limit) noexcept {
  space_.clear();
  std::uint64_t size = 0;
  for (std::size_t i = 0; size < limit && (i < count_ || hold_another()); ++i) {
    std::uint64_t header_left = header_size;
    for (const iovec& part : std::as_const(held(i)).writable()) {
      const std::uint64_t skipped = std::min<std::uint64_t>(header_left, part.iov_len);
      header_left -= skipped;
      const std::uint64_t used = std::min<std::uint64_t>(part.iov_len - skipped, limit - size);
      if (used == 0) continue;
      if (space_.size() == DescriptorChain::max_buffers) return space_;
      space_.push_back({static_cast<std::byte*>(part.iov_base) + skipped, used});
      size += used;
    }
  }
  return space_;
}

void VsockRx::send(vsock::PacketHeader header, std::uint32_t size) noexcept {
  do {
    const DescriptorChain& chain = held(0);
    header.len = static_cast<std::uint32_t>(std::min<std::uint64_t>(size, chain.writable_size() - header_size));
    store_front(chain.writable(), std::as_bytes(std::span(&header, 1)));
    queue_.push_used(chain.head(), static_cast<std::uint32_t>(header_size) + header.len);
    size -= header.len;
    first_ = (first_ + 1) % max_held;
    --count_;
  } while (size != 0);
}

bool VsockRx::wait_for_buffers() noexcept {
  if (!queue_.enable_notifications()) return false;
  queue_.disable_notifications();
  return true;
}

}  // namespace minivm::virtio

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
  held_.reserve(max_held);
  parts_.reserve(DescriptorChain::max_buffers);
  space_.reserve(DescriptorChain::max_buffers);
  queue_.disable_notifications();
}

bool VsockRx::ready() noexcept { return !held_.empty() || hold_another(); }

bool VsockRx::hold_another() noexcept {
  if (held_.size() == max_held) return false;
  for (int useless = 0; useless < max_useless && queue_.pop(chain_); ++useless) {
    if (chain_.writable_size() <= header_size) {
      queue_.push_used(chain_.head(), 0);
      continue;
    }
    const auto parts = chain_.writable();
    if (parts_.size() + parts.size() > DescriptorChain::max_buffers) {
      queue_.undo_pop();
      return false;
    }
    held_.push_back({chain_.head(), parts.size(), chain_.writable_size()});
    parts_.insert(parts_.end(), parts.begin(), parts.end());
    return true;
  }
  return false;
}

std::span<const iovec> VsockRx::space(std::uint32_t limit) noexcept {
  space_.clear();
  std::uint64_t size = 0;
  std::size_t part = 0;
  for (std::size_t i = 0; size < limit && (i < held_.size() || hold_another()); ++i) {
    std::uint64_t header_left = header_size;
    for (const std::size_t end = part + held_[i].parts; part < end; ++part) {
      const auto& [start, length] = parts_[part];
      const std::uint64_t skipped = std::min<std::uint64_t>(header_left, length);
      header_left -= skipped;
      const std::uint64_t used = std::min<std::uint64_t>(length - skipped, limit - size);
      if (used == 0) continue;
      space_.push_back({static_cast<std::byte*>(start) + skipped, used});
      size += used;
    }
  }
  return space_;
}

void VsockRx::send(vsock::PacketHeader header, std::uint32_t size) noexcept {
  std::size_t sent = 0;
  std::span<const iovec> parts = parts_;
  do {
    const Held& chain = held_[sent++];
    header.len = static_cast<std::uint32_t>(std::min<std::uint64_t>(size, chain.size - header_size));
    store_front(parts.first(chain.parts), std::as_bytes(std::span(&header, 1)));
    queue_.push_used(chain.head, static_cast<std::uint32_t>(header_size) + header.len);
    size -= header.len;
    parts = parts.subspan(chain.parts);
  } while (size != 0);
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(sent));
  parts_.erase(parts_.begin(), parts_.end() - static_cast<std::ptrdiff_t>(parts.size()));
}

bool VsockRx::wait_for_buffers() noexcept {
  if (!queue_.enable_notifications()) return false;
  queue_.disable_notifications();
  return true;
}

}  // namespace minivm::virtio

#include "devices/virtio/net_rx.h"

#include <climits>
#include <cstddef>
#include <utility>

#include "devices/virtio/iovecs.h"
#include "devices/virtio/spec.h"

namespace minivm::virtio {
namespace {

/// What one readv takes, less the byte that shows an overflow.
constexpr std::size_t max_parts = IOV_MAX - 1;

// The header may be cut anywhere, so this goes byte by byte.
void store_num_buffers(std::span<const iovec> parts, std::uint16_t count) noexcept {
  std::size_t offset = offsetof(net::Header, num_buffers);
  const auto bytes = std::as_bytes(std::span(&count, 1));
  std::size_t stored = 0;
  for (const iovec& part : parts) {
    for (; offset < part.iov_len && stored < bytes.size(); ++offset) {
      static_cast<std::byte*>(part.iov_base)[offset] = bytes[stored++];
    }
    if (stored == bytes.size()) return;
    offset -= part.iov_len;
  }
}

}  // namespace

NetRx::NetRx(Virtqueue queue, bool mergeable, std::size_t largest_frame)
    : queue_(std::move(queue)), mergeable_(mergeable), largest_frame_(largest_frame) {
  held_.reserve(queue_.size());
  parts_.reserve(IOV_MAX);
}

// A driver that has posted all its ring can hold has no more to give, however large the frame may be.
bool NetRx::enough() const noexcept {
  if (held_.empty()) return false;
  return !mergeable_ || full_ || room_ >= largest_frame_ || parts_.size() >= queue_.size();
}

bool NetRx::gather() noexcept {
  for (std::uint16_t popped = 0; popped < queue_.size() && !enough(); ++popped) {
    if (!queue_.pop(chain_) || !hold()) break;
  }
  return enough();
}

// False when the chain that was popped last has gone back.
bool NetRx::hold() noexcept {
  const auto space = chain_.writable();
  // VirtIO 1.2, 5.1.6.3.1: a buffer has room for a header at least. Others go back unused.
  const bool usable = chain_.readable().empty() && chain_.writable_size() >= sizeof(net::Header);
  if (!usable || space.size() > max_parts) {
    queue_.push_used(chain_.head(), 0);
    return true;
  }
  full_ = parts_.size() + space.size() > max_parts;
  if (full_) {
    queue_.undo_pop();
    return false;
  }
  held_.push_back({chain_.head(), space.size(), chain_.writable_size()});
  parts_.insert(parts_.end(), space.begin(), space.end());
  room_ += chain_.writable_size();
  return true;
}

bool NetRx::receive(NetBackend& backend, std::uint16_t pair) noexcept {
  parts_.push_back({&overflow_, 1});
  const std::size_t size = backend.receive(pair, parts_);
  parts_.pop_back();
  if (size == 0) return false;
  // A frame that does not fit is lost; the buffers serve the next one.
  if (size >= sizeof(net::Header) && size <= room_) deliver(size);
  return true;
}

// VirtIO 1.2, 5.1.6.4: all buffers but the last are full, and the driver sees all of them or none.
void NetRx::deliver(std::size_t size) noexcept {
  std::size_t count = 0;
  std::size_t parts = 0;
  while (size != 0) {
    const Held& held = held_[count++];
    const std::size_t written = std::min(size, held.size);
    queue_.stage_used(held.head, static_cast<std::uint32_t>(written));
    size -= written;
    room_ -= held.size;
    parts += held.parts;
  }
  store_num_buffers(parts_, static_cast<std::uint16_t>(count));
  queue_.publish_used();
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(count));
  parts_.erase(parts_.begin(), parts_.begin() + static_cast<std::ptrdiff_t>(parts));
  full_ = false;
}

}  // namespace minivm::virtio

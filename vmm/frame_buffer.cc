#include "vmm/frame_buffer.h"

#include <algorithm>

namespace minivm {
namespace {

using protocol::FrameHeader;

/// A longer frame is none, so this bounds what is kept.
constexpr std::size_t longest_frame = FrameHeader::size + FrameHeader::max_payload;
/// What an idle connection may go on holding.
constexpr std::size_t idle_capacity = std::size_t{64} << 10;

}  // namespace

bool FrameBuffer::take(std::span<const std::byte> bytes, const OnFrame& on_frame) {
  while (!bytes.empty()) {
    const auto now = bytes.first(std::min(bytes.size(), longest_frame - bytes_.size()));
    bytes_.insert(bytes_.end(), now.begin(), now.end());
    bytes = bytes.subspan(now.size());
    if (!cut(on_frame)) return false;
  }
  return true;
}

bool FrameBuffer::cut(const OnFrame& on_frame) {
  std::span<const std::byte> rest(bytes_);
  while (const auto header = FrameHeader::decode(rest)) {
    if (header->length > FrameHeader::max_payload) return false;
    const std::size_t size = FrameHeader::size + header->length;
    if (rest.size() < size) break;
    if (!on_frame(*header, rest.subspan(FrameHeader::size, header->length))) return false;
    rest = rest.subspan(size);
  }
  bytes_.erase(bytes_.begin(), bytes_.end() - static_cast<std::ptrdiff_t>(rest.size()));
  if (bytes_.empty() && bytes_.capacity() > idle_capacity) bytes_.shrink_to_fit();
  return true;
}

}  // namespace minivm

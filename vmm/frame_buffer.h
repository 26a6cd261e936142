#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "protocol/frame.h"

namespace minivm {

/// Cuts a stream of bytes into frames. Keeps less than one frame, so what an unfriendly sender can make it keep is
/// bounded by the longest.
class FrameBuffer {
 public:
  /// `payload` is valid during the call. False: the sender does not speak the protocol.
  using OnFrame = std::function<bool(const protocol::FrameHeader& header, std::span<const std::byte> payload)>;

  /// Calls `on_frame` for every frame that `bytes` completes. False once the sender broke the protocol.
  bool take(std::span<const std::byte> bytes, const OnFrame& on_frame);
  void clear() noexcept { bytes_.clear(); }

 private:
  bool cut(const OnFrame& on_frame);

  std::vector<std::byte> bytes_;
};

}  // namespace minivm

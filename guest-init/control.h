#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "freestanding/fd.h"
#include "protocol/frame.h"

namespace minivm::guest {

/// The control connection in the hands of the exec server: frames in and out of a non-blocking socket, through two
/// bounded buffers. Large: it lives in zeroed memory, never on a stack.
class Control {
 public:
  enum class State : std::uint8_t { open, lost, malformed };
  struct Frame {
    protocol::FrameHeader header;
    std::span<const std::byte> payload;  // valid until the next receive
  };

  explicit Control(Fd socket) noexcept;

  int fd() const noexcept { return socket_.get(); }
  State state() const noexcept { return state_; }

  /// Reads what there is. False: nothing came, for now or for ever (see `state`).
  bool receive() noexcept;
  /// The next complete frame of what was received.
  std::optional<Frame> next() noexcept;

  template <typename Message>
  void send(protocol::FrameType type, std::uint32_t id, const Message& message) noexcept {
    const auto frame = protocol::encode_frame(std::span(out_).subspan(out_end_), type, id, message);
    if (frame.empty()) state_ = State::lost;  // the host asks for more and more without reading the answers
    out_end_ += frame.size();
    flush();
  }
  void flush() noexcept;

  /// Requests may be taken: every session, and those that a request starts, will find room for its answers.
  bool has_room() const noexcept { return out_.size() - (out_end_ - out_begin_) >= reserved; }

 private:
  static constexpr std::size_t reserved = 48 * 1024;

  Fd socket_;
  State state_ = State::open;
  std::size_t in_begin_ = 0;
  std::size_t in_end_ = 0;
  std::size_t out_begin_ = 0;
  std::size_t out_end_ = 0;
  std::array<std::byte, protocol::FrameHeader::size + protocol::FrameHeader::max_payload> in_;
  std::array<std::byte, 64 * 1024> out_;
};

}  // namespace minivm::guest

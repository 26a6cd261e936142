#include "guest-init/control.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace minivm::guest {

using protocol::FrameHeader;

Control::Control(Fd socket) noexcept : socket_(std::move(socket)) {
  fcntl(socket_.get(), F_SETFL, fcntl(socket_.get(), F_GETFL) | O_NONBLOCK);
}

bool Control::receive() noexcept {
  if (state_ != State::open) return false;
  if (in_begin_ > 0) std::memmove(in_.data(), in_.data() + in_begin_, in_end_ - in_begin_);
  in_end_ -= in_begin_;
  in_begin_ = 0;
  // There is room: what `next` left is less than the largest frame.
  const ssize_t count = read(socket_.get(), in_.data() + in_end_, in_.size() - in_end_);
  if (count > 0) {
    in_end_ += static_cast<std::size_t>(count);
    return true;
  }
  if (count == 0 || (errno != EAGAIN && errno != EINTR)) state_ = State::lost;
  return false;
}

std::optional<Control::Frame> Control::next() noexcept {
  const auto bytes = std::span(in_).subspan(in_begin_, in_end_ - in_begin_);
  const auto header = FrameHeader::decode(bytes);
  if (!header) return std::nullopt;
  if (header->length > FrameHeader::max_payload) {
    state_ = State::malformed;
    return std::nullopt;
  }
  const std::size_t size = FrameHeader::size + header->length;
  if (bytes.size() < size) return std::nullopt;
  in_begin_ += size;
  return Frame{*header, bytes.subspan(FrameHeader::size, header->length)};
}

void Control::flush() noexcept {
  while (state_ == State::open && out_begin_ < out_end_) {
    const ssize_t count = ::send(socket_.get(), out_.data() + out_begin_, out_end_ - out_begin_, MSG_NOSIGNAL);
    if (count < 0) {
      if (errno != EAGAIN && errno != EINTR) state_ = State::lost;
      break;
    }
    out_begin_ += static_cast<std::size_t>(count);
  }
  if (out_begin_ == 0) return;
  std::memmove(out_.data(), out_.data() + out_begin_, out_end_ - out_begin_);
  out_end_ -= out_begin_;
  out_begin_ = 0;
}

}  // namespace minivm::guest

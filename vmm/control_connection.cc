#include "vmm/control_connection.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace minivm {

ControlConnection::ControlConnection(OnFrame on_frame, OnClosed on_closed)
    : on_frame_(std::move(on_frame)), on_closed_(std::move(on_closed)) {}

void ControlConnection::send(std::span<const std::byte> frame) {
  if (broken_) return;
  outgoing_.insert(outgoing_.end(), frame.begin(), frame.end());
  if (stream_ != nullptr) stream_->resume_fill();
}

void ControlConnection::attached(virtio::VsockStream& stream) noexcept {
  stream_ = &stream;
  if (!outgoing_.empty()) stream_->resume_fill();
}

std::size_t ControlConnection::receive(std::span<const iovec> data) noexcept {
  std::size_t taken = 0;
  for (const iovec& part : data) {
    const std::span bytes(static_cast<const std::byte*>(part.iov_base), part.iov_len);
    if (!broken_ && !incoming_.take(bytes, on_frame_)) break_off();
    // After a broken frame the rest is dropped: nothing in it can be trusted.
    taken += part.iov_len;
  }
  return taken;
}

/// Nobody waits for a guest that no longer speaks the protocol.
void ControlConnection::break_off() {
  broken_ = true;
  incoming_.clear();
  if (stream_ != nullptr) std::exchange(stream_, nullptr)->close();
  end("the guest broke the protocol of the control connection");
}

void ControlConnection::receive_ended() noexcept { end("the guest closed the control connection"); }

virtio::VsockEndpoint::Filled ControlConnection::fill(std::span<const iovec> space) noexcept {
  Filled filled;
  for (const iovec& part : space) {
    const std::size_t size = std::min(part.iov_len, outgoing_.size() - sent_);
    if (size == 0) continue;
    std::memcpy(part.iov_base, outgoing_.data() + sent_, size);
    sent_ += size;
    filled.size += size;
  }
  if (sent_ == outgoing_.size()) {
    outgoing_.clear();
    sent_ = 0;
  }
  return filled;
}

void ControlConnection::fill_ended() noexcept {}

void ControlConnection::closed(bool) noexcept {
  stream_ = nullptr;
  end("the guest dropped the control connection");
}

void ControlConnection::end(std::string reason) {
  if (on_closed_) std::exchange(on_closed_, nullptr)(std::move(reason));
}

}  // namespace minivm

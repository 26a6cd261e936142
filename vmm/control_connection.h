#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "devices/virtio/vsock_endpoint.h"
#include "vmm/frame_buffer.h"

namespace minivm {

/// The host end of the control connection: bytes to frames and back, nothing more. Event-loop thread.
class ControlConnection final : public virtio::VsockEndpoint {
 public:
  /// False ends the connection: the guest does not speak the protocol.
  using OnFrame = FrameBuffer::OnFrame;
  /// The connection is gone; `reason` is for people.
  using OnClosed = std::function<void(std::string reason)>;

  ControlConnection(OnFrame on_frame, OnClosed on_closed);

  /// Queues one encoded frame. What waits is bounded by what callers ask for: a few requests of at most 1 MiB.
  void send(std::span<const std::byte> frame);
  /// Bytes that the guest has not taken yet.
  std::size_t unsent() const noexcept { return outgoing_.size() - sent_; }

  void attached(virtio::VsockStream& stream) noexcept override;
  std::size_t receive(std::span<const iovec> data) noexcept override;
  void receive_ended() noexcept override;
  Filled fill(std::span<const iovec> space) noexcept override;
  void fill_ended() noexcept override;
  void closed(bool clean) noexcept override;

 private:
  void break_off();
  void end(std::string reason);

  OnFrame on_frame_;
  OnClosed on_closed_;
  virtio::VsockStream* stream_ = nullptr;
  FrameBuffer incoming_;
  std::vector<std::byte> outgoing_;
  std::size_t sent_ = 0;  // of outgoing_
  bool broken_ = false;
};

}  // namespace minivm

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "base/event_loop.h"
#include "devices/virtio/vsock_connection.h"
#include "devices/virtio/vsock_endpoint.h"

namespace minivm::virtio {

class Vsock;

/// What the device keeps for each connection: its state, the host end, and which of the device's turns it waits for.
class VsockLink final : public VsockStream {
 public:
  VsockLink(Vsock& owner, std::uint64_t its_key, VsockConnection its_connection,
            std::shared_ptr<VsockEndpoint> its_endpoint) noexcept;
  ~VsockLink();
  VsockLink(const VsockLink&) = delete;
  VsockLink& operator=(const VsockLink&) = delete;

  std::uint32_t host_port() const noexcept { return static_cast<std::uint32_t>(key >> 32); }
  std::uint32_t guest_port() const noexcept { return static_cast<std::uint32_t>(key); }

  void resume_fill() noexcept override;
  void resume_receive() noexcept override;
  void end_receive() noexcept override;
  void close() noexcept override;

  Vsock& device;
  const std::uint64_t key;
  VsockConnection connection;
  std::shared_ptr<VsockEndpoint> endpoint;  // empty once the host end is gone
  EventLoop::TimerId answer_timer = 0;      // of `connect`

  bool may_fill = true;  // until the endpoint has said that there is nothing now
  bool told_receive_ended = false;
  bool told_fill_ended = false;
  bool in_attend = false;
  bool in_control = false;
  bool in_fill = false;
};

/// Links that wait for their turn, in the order in which they came, each once.
class VsockTurns {
 public:
  /// `member` tells of a link whether it is in here.
  explicit VsockTurns(bool VsockLink::*member) noexcept : member_(member) {}

  bool empty() const noexcept { return links_.empty(); }
  std::size_t size() const noexcept { return links_.size(); }

  void add(VsockLink& link) {
    if (link.*member_) return;
    link.*member_ = true;
    links_.push_back(&link);
  }
  VsockLink& take() noexcept {
    VsockLink& link = *links_.front();
    links_.pop_front();
    link.*member_ = false;
    return link;
  }
  void clear() noexcept { links_.clear(); }
  void remove(VsockLink& link) {
    if (!(link.*member_)) return;
    link.*member_ = false;
    std::erase(links_, &link);
  }

 private:
  bool VsockLink::*member_;
  std::deque<VsockLink*> links_;
};

}  // namespace minivm::virtio

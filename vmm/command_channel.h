#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/event_loop.h"
#include "devices/virtio/vsock.h"
#include "minivm/config.h"
#include "protocol/messages.h"
#include "vmm/control_connection.h"
#include "vmm/exec_session.h"

namespace minivm {

/// The host end of the command channel: waits for the guest to dial in, hands out execs, routes what comes back.
/// The streams of an exec are vsock connections of their own, whose host ends are the caller's descriptors.
/// Event-loop thread, or the building thread before the guest runs.
class CommandChannel {
 public:
  struct Events {
    std::function<void(const protocol::Hello& hello)> hello;  // PID 1 runs; it is not welcomed yet
    std::function<void(const protocol::Ready& ready)> ready;  // execs are served
    std::function<void(std::string reason)> failed;           // the guest cannot become ready
  };
  using ExecId = std::uint32_t;

  CommandChannel(virtio::Vsock& vsock, EventLoop& loop, Events events);
  ~CommandChannel();
  CommandChannel(const CommandChannel&) = delete;
  CommandChannel& operator=(const CommandChannel&) = delete;

  bool ready() const noexcept { return ready_; }
  /// Needs `ready`. `on_end` is called later, not from within; `on_start`, if given, before it when the program runs.
  /// Throws std::runtime_error when the request is too long for one frame, or when the guest leaves too many unread.
  ExecId exec(Command command, CommandStreams streams, std::uint16_t rows, std::uint16_t columns,
              ExecSession::OnEnd on_end, ExecSession::OnStart on_start = nullptr);
  void signal(ExecId id, int number);
  void resize(ExecId id, std::uint16_t rows, std::uint16_t columns);
  /// Tells the guest what time it is, which it may have lost while one of the two was paused. One that has not read all
  /// it was sent is told later.
  void set_time();
  /// Asks the guest to end everything and power off.
  void power_off();

 private:
  std::shared_ptr<virtio::VsockEndpoint> accept_control();
  bool on_frame(const protocol::FrameHeader& header, std::span<const std::byte> payload);
  void on_exec_frame(const protocol::FrameHeader& header, protocol::Reader reader);
  void on_lost(const std::string& reason);
  void dial_streams(ExecId id, const Command& command, CommandStreams streams, protocol::Exec& dialled);
  void hang_up_streams(const protocol::Exec& dialled) noexcept;
  std::uint32_t dial_stream(ExecId id, HostFile source, HostFile sink);
  template <typename Message>
  void send(protocol::FrameType type, ExecId id, const Message& message);

  virtio::Vsock& vsock_;
  EventLoop& loop_;
  Events events_;
  std::shared_ptr<ControlConnection> control_;
  std::map<ExecId, ExecSession> sessions_;
  ExecId next_id_ = 1;
  EventLoop::TimerId time_timer_ = 0;  // when it is to be told later
  bool greeted_ = false;
  bool ready_ = false;
};

}  // namespace minivm

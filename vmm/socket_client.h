#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "protocol/messages.h"
#include "vmm/command_channel.h"
#include "vmm/frame_buffer.h"
#include "vmm/machine_statistics.h"

namespace minivm {

/// One client of a machine's control socket: reads its frames and the descriptors that came with them, and answers.
/// Event-loop thread.
class SocketClient {
 public:
  /// What a client may ask of the machine's owner.
  struct Requests {
    std::function<void(std::chrono::milliseconds deadline)> stop;
    std::function<void()> kill;
    std::function<void(std::function<void(const MachineStatistics&)> on_statistics)> statistics;
  };
  /// Runs `task` on this client later, if it is still there.
  using Later = std::function<void(std::function<void(SocketClient&)> task)>;

  SocketClient(UniqueFd socket, CommandChannel& channel, const Requests& requests, Later later);

  int fd() const noexcept { return socket_.get(); }
  /// Whether it has asked for something, so that it may be silent from now on.
  bool served() const noexcept { return exec_state_ != ExecState::none || watches_; }

  /// Takes what has come. False when the connection is over: it ended, or the client broke the protocol.
  bool receive();
  /// The connection is over: a command that nobody asked to keep is killed.
  void abandon();
  /// Answers a client that is not served.
  void refuse(int exit_code, std::string_view reason);
  /// The machine has ended.
  void announce_end(int exit_code, std::string_view reason);

 private:
  enum class ExecState : std::uint8_t { none, running, over };

  bool take_descriptors(msghdr& message);
  bool on_frame(const protocol::FrameHeader& header, std::span<const std::byte> payload);
  void on_ask_stats();
  bool on_hello(protocol::Reader reader);
  void on_exec(std::uint32_t id, protocol::Reader reader);
  void start(const protocol::Exec& request);
  std::optional<CommandStreams> claim_streams(const protocol::Exec& request);
  void on_outcome(const ExecOutcome& outcome);
  template <typename Message>
  void send(protocol::FrameType type, const Message& message);

  UniqueFd socket_;
  CommandChannel& channel_;
  const Requests& requests_;
  Later later_;
  FrameBuffer incoming_;
  std::vector<UniqueFd> descriptors_;
  bool greeted_ = false;
  bool watches_ = false;
  bool wants_statistics_ = false;  // an answer is on its way
  bool keeps_ = false;
  ExecState exec_state_ = ExecState::none;
  std::uint32_t client_id_ = 0;  // the client's name for its exec
  CommandChannel::ExecId exec_ = 0;
};

}  // namespace minivm

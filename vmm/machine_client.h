#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>

#include "base/fd.h"
#include "minivm/run.h"
#include "protocol/messages.h"
#include "vmm/frame_buffer.h"
#include "vmm/machine_statistics.h"

namespace minivm {

/// There was such a machine, and nobody speaks for it any more; what it left can be read.
class MachineEnded : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The client's end of a machine's control socket: one exec, or one wish about the machine. Blocks while it connects
/// and sends, and both have a deadline.
class MachineClient {
 public:
  /// For a machine's process to take itself down once the guest is gone, on a host that has much else to do.
  static constexpr std::chrono::seconds take_down_deadline{30};

  struct Events {
    std::function<void()> started = [] {};
    std::function<void(const ExitStatus& status)> exited = [](const ExitStatus&) {};
    std::function<void(int exit_code, std::string reason)> refused = [](int, const std::string&) {};
    std::function<void(int exit_code)> ended = [](int) {};  // the machine
    std::function<void(const MachineStatistics&)> statistics = [](const MachineStatistics&) {};
  };

  /// Throws MachineEnded, after the wait for one that is being taken down; std::runtime_error: there is no such
  /// machine, or it is still being built.
  explicit MachineClient(std::string name);

  const std::string& name() const noexcept { return name_; }
  /// For poll(2).
  int fd() const noexcept { return socket_.get(); }
  /// The machine has answered: its process lives.
  bool welcomed() const noexcept { return welcomed_; }

  /// Runs `command` on the caller's descriptors; one that is closed is /dev/null there. With `keep`, the command
  /// outlives this connection. Throws UploadError, or std::exception when the request cannot be sent.
  void exec(const Command& command, const Streams& streams, std::uint16_t rows, std::uint16_t columns, bool keep);
  void signal(int number);
  void resize(std::uint16_t rows, std::uint16_t columns);
  void watch();
  void stop(std::chrono::milliseconds deadline);
  void kill();
  void ask_statistics();

  /// Takes what has come, waiting for it when there is nothing. False when the machine's process has closed the
  /// connection. Throws std::runtime_error when it does not speak this protocol.
  bool receive(const Events& events);
  /// Waits until the machine's process has let go of all that it had. False when the deadline came first.
  bool wait_until_gone(std::chrono::milliseconds deadline) const;

 private:
  void connect();
  [[noreturn]] void fail_unanswered() const;
  bool on_frame(const protocol::FrameHeader& header, std::span<const std::byte> payload, const Events& events);
  void send(std::span<const std::byte> bytes, std::span<const int> descriptors = {});
  template <typename Message>
  void send_frame(protocol::FrameType type, const Message& message);

  std::string name_;
  UniqueFd directory_;
  UniqueFd socket_;
  FrameBuffer incoming_;
  bool greeted_ = false;  // hello is on its way
  bool welcomed_ = false;
};

}  // namespace minivm

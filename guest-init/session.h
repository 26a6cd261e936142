#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "freestanding/fd.h"
#include "freestanding/mapping.h"
#include "guest-init/control.h"
#include "guest-init/event_key.h"
#include "guest-init/exec_plan.h"
#include "guest-init/oom_log.h"
#include "guest-init/relay.h"
#include "guest-init/terminal.h"
#include "guest-init/upload.h"

namespace minivm::guest {

/// The stream that the host dialled from its port `port`: a non-blocking, close-on-exec socket, or -errno. `listener`
/// is where it arrived.
using TakeStream = int (*)(int listener, std::uint32_t port) noexcept;

/// What the exec server lends to each session.
struct ExecServices {
  int epoll = -1;
  TakeStream take_stream = nullptr;
  int stream_listener = -1;
  Control* control = nullptr;
  OomLog* oom_log = nullptr;
  int own_program = -1;  // the file that this program was started from
};

/// One exec: takes its streams, receives the program if it is uploaded, starts it, relays its bytes and answers with
/// its end. The end is the process's: what is in its pipes then is still sent, what a background child writes later is
/// not waited for. On the wire all data of a stream comes first, then its EOF, then `exited`.
class Session {
 public:
  /// `request` was decoded from a payload of `payload_size` bytes; nothing of it is kept.
  void start(const ExecServices& services, std::uint16_t slot, std::uint32_t id, const protocol::Exec& request,
             std::size_t payload_size) noexcept;

  bool active() const noexcept { return state_ != State::free; }
  std::uint32_t id() const noexcept { return id_; }
  std::uint32_t generation() const noexcept { return key_.generation; }
  /// 0 when there is no process, or none any more.
  pid_t pid() const noexcept { return pid_; }

  void on_event(std::uint16_t source, std::uint32_t events) noexcept;
  /// The process was reaped; `status` is waitpid's.
  void on_exit(int status) noexcept;
  /// To the whole process group; kept until there is one.
  void signal(std::uint32_t number) noexcept;
  void resize(WindowSize size) noexcept;

 private:
  enum class State : std::uint8_t { free, starting, running };
  enum Stream : std::uint8_t { in = 0, out = 1, err = 2, program = 3 };
  static constexpr std::size_t streams = 4;
  static constexpr std::size_t relays = 3;
  static constexpr std::uint16_t local_source = streams;  // sources below are sockets, from here local ends

  // session.cc: from the request to the end
  bool prepare(const protocol::Exec& request, std::size_t payload_size) noexcept;
  bool take(std::size_t stream, std::uint32_t port) noexcept;
  void receive_program() noexcept;
  void launch() noexcept;
  void settle() noexcept;
  void fail(protocol::ExecStep step, int error) noexcept;
  void fail(const protocol::ExecFailed& failed) noexcept;
  void release() noexcept;

  // session_streams.cc: the program's side of the streams, and the relays
  using ChildEnds = std::array<Fd, relays>;
  bool open_pipes(ChildEnds& ends) noexcept;
  bool open_pty(ChildEnds& ends) noexcept;
  void start_relays() noexcept;
  void drain_relays() noexcept;
  bool outputs_ended() const noexcept;
  void relay(std::uint16_t source, std::uint32_t events) noexcept;
  void relay_input(bool reader_gone) noexcept;
  void relay_output(std::size_t stream, bool probe) noexcept;
  void relay_terminal(bool probe) noexcept;
  Relay::Flow pump_output(std::size_t stream, int source, int socket, bool probe) noexcept;
  void end_terminal_input() noexcept;
  int watch_source(int fd, std::size_t source, bool again = false) noexcept;
  std::span<std::byte> relay_buffer(std::size_t relay) const noexcept;

  State state_ = State::free;
  bool is_terminal_ = false;
  bool input_open_ = false;  // of a terminal, whose descriptors serve the output too
  bool exited_ = false;
  EventKey key_;
  std::uint32_t id_ = 0;
  const ExecServices* services_ = nullptr;

  Mapping memory_;  // the relays' buffers, then the plan
  ExecPlan* plan_ = nullptr;
  Upload upload_;
  bool has_upload_ = false;
  bool is_built_in_ = false;
  WindowSize window_;
  std::array<Fd, streams> sockets_;
  std::array<Fd, relays> locals_;  // our ends of the pipes; of a terminal, the master is the first
  std::array<Relay, relays> relays_;

  pid_t pid_ = 0;
  std::uint64_t early_signals_ = 0;  // a bit for each, from 1
  protocol::Exited end_;
};

}  // namespace minivm::guest

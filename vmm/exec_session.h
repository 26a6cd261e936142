#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/host_file.h"
#include "minivm/config.h"
#include "protocol/messages.h"
#include "vmm/program_needs.h"

namespace minivm {

/// The caller's ends of a command's streams. An empty one is /dev/null in the guest. With a tty, `input` and `output`
/// are the two directions of the terminal and `error` is not used.
struct CommandStreams {
  HostFile input;
  HostFile output;
  HostFile error;
  HostFile program;  // the file that Command::upload names
  std::uint64_t program_size = 0;
  ProgramNeeds program_needs;
};

/// How one exec ended: the program's own status, or why it never ran.
struct ExecOutcome {
  /// Exit codes of the shells and of docker: what a launcher says of its own.
  static constexpr int not_found = 127;
  static constexpr int not_executable = 126;
  static constexpr int launcher_failed = 125;

  std::optional<ExitStatus> status;
  int launcher_code = 0;  // without status: 125, 126 or 127
  std::string failure;    // without status, for people
  // CLOCK_MONOTONIC when the guest's word of each was here; 0: never.
  std::int64_t started_ns = 0;
  std::int64_t ended_ns = 0;
};

/// "exec /bin/foo: no such file or directory" and the code that goes with it.
ExecOutcome describe_failure(const protocol::ExecFailed& failed, const Command& command);

/// One exec that was asked for: ends when the guest has told how the program ended and every byte of its output is out.
/// Event-loop thread.
class ExecSession {
 public:
  using OnEnd = std::function<void(ExecOutcome outcome)>;
  using OnStart = std::function<void()>;

  ExecSession(Command command, std::uint32_t open_sinks, OnEnd on_end, OnStart on_start = nullptr);

  const Command& command() const noexcept { return command_; }

  void started();
  void exited(const protocol::Exited& exited);
  void failed(const protocol::ExecFailed& failed);
  /// The channel broke: nothing more will be heard.
  void lost(const std::string& reason);
  /// One of the sinks got its last byte; `error` is 0 or what broke it.
  void sink_done(int error);

 private:
  void end_when_complete();

  Command command_;
  std::uint32_t open_sinks_;
  OnEnd on_end_;
  OnStart on_start_;
  std::int64_t started_ns_ = 0;
  std::optional<ExecOutcome> outcome_;
};

}  // namespace minivm

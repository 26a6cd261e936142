#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>

#include "minivm/run.h"
#include "vmm/machine.h"

namespace minivm {

/// One machine for one command: exec at READY, down again when the command has ended and its output is out.
/// Everything but the constructor and `run` belongs to the machine's loop thread.
class CommandRun {
 public:
  struct Options {
    Streams streams;
    std::chrono::milliseconds timeout{0};  // 0: none
    HostFile console;                      // the guest's serial output; empty: only remembered
    std::uint16_t rows = 0;                // of the terminal, with Command::tty
    std::uint16_t columns = 0;
    std::function<void()> on_start;    // right before the command is asked for
    std::function<void()> on_started;  // it runs
  };

  /// Throws when the machine cannot be built, or when the file to upload is no ELF64 program for x86-64.
  CommandRun(const MachineConfig& config, Command command, Options options);

  Machine& machine() noexcept { return machine_; }

  /// To the command's process group. One that asks it to end (SIGINT, SIGTERM, SIGHUP, SIGQUIT) ends the machine with
  /// 128 + `number` before the command runs, and when it is the second one; the others are dropped before that.
  void signal(int number);
  /// This process is about to be stopped, with the machine and all: the command's group is too.
  void suspend();
  /// It goes on, and the guest may have to hear what time it is.
  void resume();
  void resize(std::uint16_t rows, std::uint16_t columns);
  /// SIGTERM to the command; what still runs shortly before the deadline is ended by the guest, then by the host.
  void stop(std::chrono::milliseconds deadline);
  /// Ends the machine at once.
  void kill();

  RunResult run();

 private:
  static constexpr int timed_out = 124;

  void on_ready();
  void on_outcome(const ExecOutcome& outcome);
  void on_timeout();
  void stop_with(int exit_code, std::string failure);
  void take_down();

  MachineConfig config_;
  Command command_;
  Options options_;
  CommandStreams streams_;
  RunResult result_;
  bool decided_ = false;  // result_ has its exit code
  std::optional<CommandChannel::ExecId> exec_;
  int wishes_to_end_ = 0;
  bool stopping_ = false;
  std::int64_t exec_started_ns_ = 0;
  std::int64_t exec_ended_ns_ = 0;
  Machine machine_;  // last: its threads call the rest
};

/// What a launcher says when `end` came before the command's own end.
std::string describe(const MachineEnd& end);

}  // namespace minivm

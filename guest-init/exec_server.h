#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "guest-init/control.h"
#include "guest-init/oom_log.h"
#include "guest-init/page_reports.h"
#include "guest-init/session.h"

namespace minivm::guest {

/// Serves the control connection: starts programs, owns every waitpid, answers. One thread, one epoll, no heap; large,
/// so it lives in zeroed memory of its own.
class ExecServer {
 public:
  static constexpr std::size_t max_sessions = 256;

  enum class End : std::uint8_t { power_off, connection_lost, malformed_frame };

  /// `take_stream` takes the streams that arrive at `stream_listener`. `init_proc` is a descriptor of /proc when
  /// another program is PID 1, whose root directory the programs get; else -1. `own_program` is one of the file that
  /// this program was started from, for what is built in, or -1. `page_reports` are restored in time. Signals must be
  /// blocked already.
  ExecServer(Fd control, Fd stream_listener, TakeStream take_stream, int init_proc, int own_program,
             PageReports page_reports) noexcept;

  /// Until the host ends it.
  End run() noexcept;

 private:
  void on_event(EventKey key, std::uint32_t events) noexcept;
  void serve_control() noexcept;
  void serve(const Control::Frame& frame) noexcept;
  void start(const Control::Frame& frame) noexcept;
  void on_child_signal() noexcept;
  void reap() noexcept;
  Session* find(std::uint32_t id) noexcept;

  Control control_;
  Fd stream_listener_;
  OomLog oom_log_;
  PageReports page_reports_;
  Fd epoll_;
  Fd child_signals_;
  int init_proc_;
  bool reap_again_ = false;
  bool power_off_ = false;
  ExecServices services_;
  std::array<Session, max_sessions> sessions_;
};

}  // namespace minivm::guest

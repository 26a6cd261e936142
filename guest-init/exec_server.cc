#include "guest-init/exec_server.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>

#include "guest-init/clock.h"
#include "guest-init/hand_over.h"

namespace minivm::guest {
namespace {

using protocol::ExecFailed;
using protocol::ExecStep;
using protocol::FrameType;

constexpr int events_per_turn = 64;
/// Orphans may die as fast as they are reaped; the sessions get their turn in between.
constexpr int reaped_per_turn = 256;

Fd open_child_signals() noexcept {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  return Fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

}  // namespace

ExecServer::ExecServer(Fd control, Fd stream_listener, TakeStream take_stream, int init_proc, int own_program,
                       PageReports page_reports) noexcept
    : control_(std::move(control)),
      stream_listener_(std::move(stream_listener)),
      page_reports_(std::move(page_reports)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      child_signals_(open_child_signals()),
      init_proc_(init_proc),
      services_{epoll_.get(), take_stream, stream_listener_.get(), &control_, &oom_log_, own_program} {
  watch(epoll_.get(), control_.fd(), {0, EventKey::control, 0});
  watch(epoll_.get(), child_signals_.get(), {0, EventKey::children, 0});
  if (page_reports_.timer() >= 0) watch(epoll_.get(), page_reports_.timer(), {0, EventKey::page_reports, 0});
}

ExecServer::End ExecServer::run() noexcept {
  while (!power_off_) {
    if (control_.state() == Control::State::lost) return End::connection_lost;
    if (control_.state() == Control::State::malformed) return End::malformed_frame;
    epoll_event events[events_per_turn];
    const int count = epoll_wait(epoll_.get(), events, events_per_turn, reap_again_ ? 0 : -1);
    for (int i = 0; i < count; ++i) on_event(EventKey::unpack(events[i].data.u64), events[i].events);
    if (reap_again_) reap();
  }
  return End::power_off;
}

void ExecServer::on_event(EventKey key, std::uint32_t events) noexcept {
  if (key.slot == EventKey::control) return serve_control();
  if (key.slot == EventKey::children) return on_child_signal();
  if (key.slot == EventKey::page_reports) return page_reports_.restore();
  Session& session = sessions_[key.slot];
  if (session.generation() == key.generation) session.on_event(key.source, events);
}

void ExecServer::serve_control() noexcept {
  control_.flush();
  do {
    while (control_.has_room()) {
      const auto frame = control_.next();
      if (!frame) break;
      serve(*frame);
    }
    // Without room the event that lets `flush` go on brings us back here.
  } while (control_.has_room() && control_.receive());
}

void ExecServer::serve(const Control::Frame& frame) noexcept {
  const protocol::Reader payload(frame.payload);
  Session* const session = find(frame.header.id);
  switch (frame.header.type) {
    case FrameType::exec:
      return start(frame);
    case FrameType::signal:
      // Those that name no session crossed its end on the way.
      if (const auto message = protocol::Signal::decode(payload); message && session) session->signal(message->number);
      return;
    case FrameType::resize:
      if (const auto message = protocol::Resize::decode(payload); message && session) {
        session->resize({message->rows, message->columns});
      }
      return;
    case FrameType::set_time:
      if (const auto message = protocol::SetTime::decode(payload)) follow_host_clock(message->realtime_ns);
      return;
    case FrameType::power_off:
      power_off_ = true;
      return;
    default:  // from a later version
      return;
  }
}

void ExecServer::start(const Control::Frame& frame) noexcept {
  const auto refuse = [&](int error) noexcept {
    control_.send(FrameType::exec_failed, frame.header.id,
                  ExecFailed{ExecStep::request, static_cast<std::uint32_t>(error), {}});
  };
  const auto request = protocol::Exec::decode(protocol::Reader(frame.payload));
  if (!request) return refuse(EBADMSG);
  if (init_proc_ >= 0) enter_root_of_init(init_proc_);
  for (std::size_t slot = 0; slot < max_sessions; ++slot) {
    if (sessions_[slot].active()) continue;
    return sessions_[slot].start(services_, static_cast<std::uint16_t>(slot), frame.header.id, *request,
                                 frame.payload.size());
  }
  refuse(EAGAIN);
}

void ExecServer::on_child_signal() noexcept {
  signalfd_siginfo signals[8];
  while (read(child_signals_.get(), signals, sizeof(signals)) > 0) {
  }
  reap();
}

void ExecServer::reap() noexcept {
  for (int i = 0; i < reaped_per_turn; ++i) {
    int status = 0;
    const pid_t pid = waitpid(-1, &status, WNOHANG);
    reap_again_ = pid > 0;
    if (pid <= 0) return;
    for (Session& session : sessions_) {
      if (session.pid() != pid) continue;
      session.on_exit(status);
      break;
    }
  }
}

Session* ExecServer::find(std::uint32_t id) noexcept {
  for (Session& session : sessions_) {
    if (session.active() && session.id() == id) return &session;
  }
  return nullptr;
}

}  // namespace minivm::guest

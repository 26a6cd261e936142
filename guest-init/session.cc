#include "guest-init/session.h"

#include <sys/wait.h>

#include <cerrno>
#include <csignal>

#include "freestanding/text.h"
#include "guest-init/loader.h"
#include "guest-init/spawn.h"

namespace minivm::guest {

using protocol::ExecFailed;
using protocol::ExecStep;
using protocol::Exited;
using protocol::FrameType;

void Session::start(const ExecServices& services, std::uint16_t slot, std::uint32_t id, const protocol::Exec& request,
                    std::size_t payload_size) noexcept {
  services_ = &services;
  key_.slot = slot;
  id_ = id;
  state_ = State::starting;
  if (!prepare(request, payload_size)) return;
  const std::array<std::uint32_t, streams> ports{request.stdin_port, is_terminal_ ? 0 : request.stdout_port,
                                                 is_terminal_ ? 0 : request.stderr_port,
                                                 has_upload_ ? request.program_port : 0};
  for (std::size_t stream = 0; stream < streams; ++stream) {
    if (ports[stream] != 0 && !take(stream, ports[stream])) return;
  }
  if (has_upload_) return receive_program();
  launch();
}

bool Session::prepare(const protocol::Exec& request, std::size_t payload_size) noexcept {
  is_terminal_ = (request.flags & protocol::Exec::tty) != 0;
  has_upload_ = (request.flags & protocol::Exec::upload) != 0;
  is_built_in_ = (request.flags & protocol::Exec::built_in) != 0;
  window_ = {request.rows, request.columns};
  if (is_built_in_ && (has_upload_ || services_->own_program < 0)) {
    fail(ExecStep::request, EINVAL);
    return false;
  }
  if ((is_terminal_ && request.stdin_port == 0) || (has_upload_ && request.program_port == 0)) {
    fail(ExecStep::request, EINVAL);
    return false;
  }
  constexpr std::size_t buffers = relays * Relay::capacity;
  memory_ = Mapping(buffers + ExecPlan::size_for(request, payload_size));
  if (!memory_) {
    fail(ExecStep::request, ENOMEM);
    return false;
  }
  ExecFailed failed;
  plan_ = ExecPlan::build(request, {}, memory_.bytes().subspan(buffers), failed);
  if (plan_ == nullptr) fail(failed);
  if (plan_ != nullptr && has_upload_) {
    if (const int error = upload_.open(request.program_size)) fail(ExecStep::upload, error);
  }
  return active();
}

bool Session::take(std::size_t stream, std::uint32_t port) noexcept {
  const int socket = services_->take_stream(services_->stream_listener, port);
  sockets_[stream].reset(socket < 0 ? -1 : socket);
  const int error = socket < 0 ? -socket : watch_source(socket, stream);
  if (error != 0) fail(ExecStep::streams, error);
  return error == 0;
}

void Session::on_event(std::uint16_t source, std::uint32_t events) noexcept {
  switch (state_) {
    case State::free:
      return;
    case State::starting:
      if (source == program) receive_program();
      return;
    case State::running:
      relay(source, events);
      settle();
      return;
  }
}

void Session::receive_program() noexcept {
  switch (upload_.receive(sockets_[program].get(), relay_buffer(in))) {
    case Upload::Progress::waiting:
      return;
    case Upload::Progress::yielded:
      watch_source(sockets_[program].get(), program, true);
      return;
    case Upload::Progress::failed:
      return fail(ExecStep::upload, upload_.error());
    case Upload::Progress::complete:
      sockets_[program].reset();
      return launch();
  }
}

void Session::launch() noexcept {
  if (has_upload_) {
    if (const ExecFailed missing = find_missing(*plan_, relay_buffer(in)); missing.step != ExecStep{}) {
      return fail(missing);
    }
  }
  ChildEnds ends;
  if (!(is_terminal_ ? open_pty(ends) : open_pipes(ends))) return;
  const Fd uploaded = upload_.take();
  const int program_file = is_built_in_ ? services_->own_program : uploaded.get();
  const SpawnFiles files{{ends[0].get(), ends[1].get(), ends[2].get()}, program_file, is_terminal_};
  const SpawnResult result = spawn(*plan_, files);
  if (!result.ok()) return fail(result.failed);
  pid_ = result.pid;
  state_ = State::running;
  services_->oom_log->forget(pid_);
  services_->control->send(FrameType::started, id_, protocol::Started{static_cast<std::uint32_t>(pid_)});
  for (std::uint32_t number = 1; early_signals_ != 0; ++number, early_signals_ >>= 1) {
    if ((early_signals_ & 1) != 0) signal(number);
  }
  ends = {};  // only the program holds them from now on, so that its end is seen
  start_relays();
  settle();
}

void Session::on_exit(int status) noexcept {
  if (WIFSIGNALED(status)) {
    const bool oom = WTERMSIG(status) == SIGKILL && services_->oom_log->killed(pid_);
    end_.flags = Exited::by_signal | (oom ? Exited::out_of_memory : 0);
    end_.value = static_cast<std::uint32_t>(WTERMSIG(status));
  } else {
    end_.value = static_cast<std::uint32_t>(WEXITSTATUS(status));
  }
  pid_ = 0;
  exited_ = true;
  drain_relays();
  settle();
}

void Session::signal(std::uint32_t number) noexcept {
  if (number == 0 || number > 64) return;
  if (pid_ > 0) {
    kill(-pid_, static_cast<int>(number));
  } else if (!exited_) {
    early_signals_ |= std::uint64_t{1} << (number - 1);
  }
}

void Session::resize(WindowSize size) noexcept {
  window_ = size;
  if (is_terminal_ && locals_[in]) resize_terminal(locals_[in].get(), size);
}

void Session::settle() noexcept {
  if (state_ != State::running || !exited_ || !outputs_ended()) return;
  const Exited end = end_;
  release();  // the streams are closed before the host hears of the end
  services_->control->send(FrameType::exited, id_, end);
}

void Session::fail(ExecStep step, int error) noexcept { fail(ExecFailed{step, static_cast<std::uint32_t>(error), {}}); }

void Session::fail(const ExecFailed& failed) noexcept {
  const Text<256> object(failed.object);  // what it names goes with this session's memory
  release();
  services_->control->send(FrameType::exec_failed, id_, ExecFailed{failed.step, failed.error, object.view()});
}

void Session::release() noexcept {
  const std::uint32_t id = id_;
  const ExecServices* const services = services_;
  const std::uint32_t next_generation = key_.generation + 1;
  *this = Session{};
  key_.generation = next_generation;
  id_ = id;
  services_ = services;
}

}  // namespace minivm::guest

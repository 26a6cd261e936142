#include "vmm/command_channel.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "base/log.h"
#include "devices/virtio/vsock_fd.h"
#include "vmm/exec_request.h"

namespace minivm {
namespace {

/// Bytes of requests that may wait for a guest that does not read: many callers may ask at once, each for a frame of
/// its own.
constexpr std::size_t max_unread = std::size_t{8} << 20;

/// For the guest's kernel to answer: long, for a guest that is busy or paused.
constexpr std::chrono::minutes dial_deadline{1};
/// Until the time is told that could not be told at once.
constexpr std::chrono::seconds time_pause{1};

std::uint64_t realtime_ns() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

std::string describe(const protocol::Failed& failed) {
  std::string text = fmt::format("guest: {} {}", failed.step, failed.object);
  if (failed.error != 0) text += fmt::format(": {}", std::strerror(static_cast<int>(failed.error)));
  return text;
}

}  // namespace

CommandChannel::CommandChannel(virtio::Vsock& vsock, EventLoop& loop, Events events)
    : vsock_(vsock), loop_(loop), events_(std::move(events)) {
  vsock_.listen(protocol::control_port, [this](std::uint32_t) { return accept_control(); });
}

CommandChannel::~CommandChannel() {
  if (time_timer_ != 0) loop_.cancel(time_timer_);
}

std::shared_ptr<virtio::VsockEndpoint> CommandChannel::accept_control() {
  // One guest, one control connection: another one would be some program in the guest that tries its luck.
  if (control_) return nullptr;
  control_ = std::make_shared<ControlConnection>(
      [this](const protocol::FrameHeader& header, std::span<const std::byte> payload) {
        return on_frame(header, payload);
      },
      [this](const std::string& reason) { on_lost(reason); });
  return control_;
}

// NOLINTBEGIN(performance-unnecessary-value-param): they move into the session, which clang 14 does not see
CommandChannel::ExecId CommandChannel::exec(Command command, CommandStreams streams, std::uint16_t rows,
                                            std::uint16_t columns, ExecSession::OnEnd on_end,
                                            ExecSession::OnStart on_start) {
  // NOLINTEND(performance-unnecessary-value-param)
  if (control_->unsent() > max_unread) throw std::runtime_error("exec request: the guest does not take any more");
  const ExecId id = next_id_++;
  const std::uint32_t sinks = (streams.output ? 1U : 0U) + (streams.error ? 1U : 0U);
  const ProgramNeeds needs = std::move(streams.program_needs);
  protocol::Exec dialled;
  dialled.rows = rows;
  dialled.columns = columns;
  std::vector<std::byte> frame;
  try {
    dial_streams(id, command, std::move(streams), dialled);
    frame = encode_exec(id, command, dialled, needs);
  } catch (...) {
    hang_up_streams(dialled);
    throw;
  }
  // Posted: the session is busy calling when it ends.
  auto end = [this, id, dialled, on_end = std::move(on_end)](ExecOutcome outcome) {
    loop_.post([this, id, dialled, on_end, outcome = std::move(outcome)] {
      sessions_.erase(id);
      // What the guest never took, or takes no more of, would keep the caller's descriptors.
      hang_up_streams(dialled);
      on_end(outcome);
    });
  };
  sessions_.try_emplace(id, std::move(command), sinks, std::move(end), std::move(on_start));
  control_->send(frame);
  return id;
}

void CommandChannel::dial_streams(ExecId id, const Command& command, CommandStreams streams, protocol::Exec& dialled) {
  dialled.program_size = streams.program_size;
  // In the order in which the guest takes them.
  if (command.tty) {
    dialled.stdin_port = dial_stream(id, std::move(streams.input), std::move(streams.output));
  } else {
    if (streams.input) dialled.stdin_port = dial_stream(id, std::move(streams.input), {});
    if (streams.output) dialled.stdout_port = dial_stream(id, {}, std::move(streams.output));
    if (streams.error) dialled.stderr_port = dial_stream(id, {}, std::move(streams.error));
  }
  if (streams.program) dialled.program_port = dial_stream(id, std::move(streams.program), {});
}

void CommandChannel::hang_up_streams(const protocol::Exec& dialled) noexcept {
  for (const std::uint32_t port :
       {dialled.program_port, dialled.stdin_port, dialled.stdout_port, dialled.stderr_port}) {
    if (port != 0) vsock_.disconnect(port, protocol::stream_port);
  }
}

/// Connects the caller's descriptors to the guest. Returns the port from which.
std::uint32_t CommandChannel::dial_stream(ExecId id, HostFile source, HostFile sink) {
  const bool has_sink = static_cast<bool>(sink);
  auto endpoint = virtio::make_fd_endpoint(loop_, std::move(source), std::move(sink), [this, id, has_sink](int error) {
    if (!has_sink) return;
    // Posted: the session's end may take the endpoint's owner down, which is busy calling us.
    loop_.post([this, id, error] {
      const auto session = sessions_.find(id);
      if (session != sessions_.end()) session->second.sink_done(error);
    });
  });
  const std::uint32_t port = vsock_.connect(protocol::stream_port, std::move(endpoint), dial_deadline);
  if (port == 0) throw std::runtime_error("exec request: the guest has as many connections as it can already");
  return port;
}

void CommandChannel::signal(ExecId id, int number) {
  send(protocol::FrameType::signal, id, protocol::Signal{static_cast<std::uint32_t>(number)});
}

void CommandChannel::resize(ExecId id, std::uint16_t rows, std::uint16_t columns) {
  send(protocol::FrameType::resize, id, protocol::Resize{rows, columns});
}

void CommandChannel::set_time() {
  if (!ready_) return;
  if (control_->unsent() == 0) {
    return send(protocol::FrameType::set_time, 0, protocol::SetTime{.realtime_ns = realtime_ns()});
  }
  // They must not pile up in front of a guest that does not read, nor tell it what the time was.
  if (time_timer_ != 0) return;
  time_timer_ = loop_.after(time_pause, [this] {
    time_timer_ = 0;
    set_time();
  });
}

void CommandChannel::power_off() { send(protocol::FrameType::power_off, 0, protocol::Empty{}); }

template <typename Message>
void CommandChannel::send(protocol::FrameType type, ExecId id, const Message& message) {
  if (!control_) return;
  std::array<std::byte, 256> buffer;
  control_->send(protocol::encode_frame(buffer, type, id, message));
}

bool CommandChannel::on_frame(const protocol::FrameHeader& header, std::span<const std::byte> payload) {
  const protocol::Reader reader(payload);
  switch (header.type) {
    case protocol::FrameType::hello: {
      const auto hello = protocol::Hello::decode(reader);
      // Once: each one is answered, and a guest that does not read the answers must not pile them up here.
      if (!hello || std::exchange(greeted_, true)) return false;
      if (hello->version != protocol::version) {
        events_.failed(fmt::format("guest: speaks protocol {}, this minivm {}", hello->version, protocol::version));
        return false;
      }
      events_.hello(*hello);
      send(protocol::FrameType::welcome, 0, protocol::Welcome{.realtime_ns = realtime_ns()});
      return true;
    }
    case protocol::FrameType::ready: {
      const auto ready = protocol::Ready::decode(reader);
      if (!ready || std::exchange(ready_, true)) return false;
      events_.ready(*ready);
      return true;
    }
    case protocol::FrameType::failed: {
      const auto failed = protocol::Failed::decode(reader);
      if (!failed) return false;
      events_.failed(describe(*failed));
      return true;
    }
    default:
      on_exec_frame(header, reader);
      return true;
  }
}

/// Unknown types, and news of execs that are over, are skipped.
void CommandChannel::on_exec_frame(const protocol::FrameHeader& header, protocol::Reader reader) {
  const auto session = sessions_.find(header.id);
  if (session == sessions_.end()) return;
  if (header.type == protocol::FrameType::started) {
    session->second.started();
  } else if (header.type == protocol::FrameType::exited) {
    if (const auto exited = protocol::Exited::decode(reader)) session->second.exited(*exited);
  } else if (header.type == protocol::FrameType::exec_failed) {
    if (const auto failed = protocol::ExecFailed::decode(reader)) session->second.failed(*failed);
  }
}

void CommandChannel::on_lost(const std::string& reason) {
  const bool was_ready = std::exchange(ready_, false);
  for (auto& [id, session] : sessions_) session.lost(reason);
  // Once it was ready, the channel goes when the guest goes: the guest's own end says more.
  if (was_ready) {
    log::info("{}", reason);
  } else {
    events_.failed(reason);
  }
}

}  // namespace minivm

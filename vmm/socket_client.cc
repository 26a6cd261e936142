#include "vmm/socket_client.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <utility>

#include "protocol/machine_socket.h"
#include "vmm/exec_request.h"

namespace minivm {
namespace {

using protocol::FrameHeader;
using protocol::FrameType;

/// For one call of `receive`, so that no client keeps the loop for itself.
constexpr int max_reads = 4;
constexpr std::size_t read_size = std::size_t{64} << 10;
/// A name that was not found is part of it, and may have any length.
constexpr std::size_t longest_reason = 4096;

}  // namespace

SocketClient::SocketClient(UniqueFd socket, CommandChannel& channel, const Requests& requests, Later later)
    : socket_(std::move(socket)), channel_(channel), requests_(requests), later_(std::move(later)) {}

bool SocketClient::receive() {
  for (int i = 0; i < max_reads; ++i) {
    std::array<std::byte, read_size> bytes;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(protocol::machine_socket::max_descriptors * sizeof(int))> control;
    iovec part{bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t size = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size < 0) return errno == EAGAIN || errno == EINTR;
    if (!take_descriptors(message) || size == 0) return false;
    const auto came = std::span(bytes).first(static_cast<std::size_t>(size));
    const bool understood = incoming_.take(came, [this](const FrameHeader& header, std::span<const std::byte> payload) {
      return on_frame(header, payload);
    });
    if (!understood) return false;
    if (came.size() < bytes.size()) return true;
  }
  return true;
}

/// Each descriptor is owned before anything is judged: none may be left behind.
bool SocketClient::take_descriptors(msghdr& message) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      descriptors_.emplace_back(fd);
    }
  }
  // MSG_CTRUNC: more than there may be, or than this process can have.
  return (message.msg_flags & MSG_CTRUNC) == 0 && descriptors_.size() <= protocol::machine_socket::max_descriptors;
}

bool SocketClient::on_frame(const FrameHeader& header, std::span<const std::byte> payload) {
  const protocol::Reader reader(payload);
  if (!greeted_) return header.type == FrameType::hello && on_hello(reader);
  switch (header.type) {
    case FrameType::exec:
      on_exec(header.id, reader);
      return true;
    case FrameType::signal:
      if (const auto message = protocol::Signal::decode(reader); message && exec_state_ == ExecState::running) {
        channel_.signal(exec_, static_cast<int>(message->number & 0x7F));
      }
      return true;
    case FrameType::resize:
      if (const auto message = protocol::Resize::decode(reader); message && exec_state_ == ExecState::running) {
        channel_.resize(exec_, message->rows, message->columns);
      }
      return true;
    case FrameType::keep:
      keeps_ = true;
      return true;
    case FrameType::watch:
      watches_ = true;
      return true;
    case FrameType::stop:
      watches_ = true;
      if (const auto message = protocol::Stop::decode(reader)) {
        requests_.stop(std::chrono::milliseconds(message->deadline_ms));
      }
      return true;
    case FrameType::kill:
      watches_ = true;
      requests_.kill();
      return true;
    case FrameType::ask_stats:
      on_ask_stats();
      return true;
    default:  // from a later version
      return true;
  }
}

/// One answer at a time, however often a client asks.
void SocketClient::on_ask_stats() {
  if (wants_statistics_ || !requests_.statistics) return;
  wants_statistics_ = true;
  requests_.statistics([later = later_](const MachineStatistics& statistics) {
    later([statistics](SocketClient& client) {
      client.wants_statistics_ = false;
      client.send(FrameType::stats, protocol::Stats{statistics});
    });
  });
}

/// One that speaks another version learns which one is spoken here, and that is all.
bool SocketClient::on_hello(protocol::Reader reader) {
  const auto hello = protocol::Hello::decode(reader);
  if (!hello) return false;
  greeted_ = true;
  send(FrameType::welcome, protocol::Welcome{});
  return hello->version == protocol::version;
}

void SocketClient::on_exec(std::uint32_t id, protocol::Reader reader) {
  const auto request = protocol::Exec::decode(reader);
  if (exec_state_ != ExecState::none) return;  // one for each connection
  client_id_ = id;
  exec_state_ = ExecState::over;
  if (!request) return refuse(ExecOutcome::launcher_failed, "exec request: malformed");
  if (!channel_.ready()) return refuse(ExecOutcome::launcher_failed, "not ready");
  try {
    start(*request);
  } catch (const std::exception& error) {
    refuse(ExecOutcome::launcher_failed, error.what());
  }
}

void SocketClient::start(const protocol::Exec& request) {
  auto streams = claim_streams(request);
  descriptors_.clear();
  if (!streams) return refuse(ExecOutcome::launcher_failed, "exec request: names descriptors that did not come along");
  exec_ = channel_.exec(
      command_of(request), *std::move(streams), request.rows, request.columns,
      [later = later_](const ExecOutcome& outcome) {
        later([outcome](SocketClient& client) { client.on_outcome(outcome); });
      },
      [later = later_] { later([](SocketClient& client) { client.send(FrameType::started, protocol::Started{}); }); });
  exec_state_ = ExecState::running;
}

/// Nothing when a port is not the position of a descriptor, or names one that another stream has.
std::optional<CommandStreams> SocketClient::claim_streams(const protocol::Exec& request) {
  const auto is_there = [this](std::uint32_t port) {
    return port == 0 || (port <= descriptors_.size() && descriptors_[port - 1]);
  };
  const auto claim = [this](std::uint32_t port, HostFile::Direction direction) {
    return port == 0 ? HostFile() : HostFile(std::move(descriptors_[port - 1]), direction);
  };
  CommandStreams streams;
  streams.program_size = request.program_size;
  streams.program_needs = needs_of(request);
  const std::array<std::pair<std::uint32_t, HostFile*>, 4> ports{{{request.stdin_port, &streams.input},
                                                                  {request.stdout_port, &streams.output},
                                                                  {request.stderr_port, &streams.error},
                                                                  {request.program_port, &streams.program}}};
  for (const auto& [port, file] : ports) {
    if (!is_there(port)) return std::nullopt;
    const bool reads = file == &streams.input || file == &streams.program;
    *file = claim(port, reads ? HostFile::Direction::read : HostFile::Direction::write);
  }
  return streams;
}

void SocketClient::on_outcome(const ExecOutcome& outcome) {
  exec_state_ = ExecState::over;
  if (!outcome.status) return refuse(outcome.launcher_code, outcome.failure);
  const ExitStatus& status = *outcome.status;
  protocol::Exited exited;
  exited.flags = (status.signal != 0 ? protocol::Exited::by_signal : 0) |
                 (status.out_of_memory ? protocol::Exited::out_of_memory : 0);
  exited.value = static_cast<std::uint32_t>(status.signal != 0 ? status.signal : status.code);
  send(FrameType::exited, exited);
}

void SocketClient::abandon() {
  if (exec_state_ == ExecState::running && !keeps_) channel_.signal(exec_, SIGKILL);
}

void SocketClient::refuse(int exit_code, std::string_view reason) {
  send(FrameType::refused, protocol::Refused{static_cast<std::uint32_t>(exit_code), reason.substr(0, longest_reason)});
}

void SocketClient::announce_end(int exit_code, std::string_view reason) {
  if (exec_state_ == ExecState::running) refuse(ExecOutcome::launcher_failed, reason);
  if (watches_) send(FrameType::ended, protocol::Ended{static_cast<std::uint32_t>(exit_code)});
}

/// The few small frames of a connection fit into its socket's buffer; a client for which they do not has not read any.
template <typename Message>
void SocketClient::send(FrameType type, const Message& message) {
  std::array<std::byte, longest_reason + 256> buffer;
  const auto frame = protocol::encode_frame(buffer, type, client_id_, message);
  [[maybe_unused]] const ssize_t sent = ::send(socket_.get(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace minivm

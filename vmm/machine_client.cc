#include "vmm/machine_client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "protocol/machine_socket.h"
#include "vmm/exec_request.h"
#include "vmm/machine_registry.h"
#include "vmm/upload.h"

namespace minivm {
namespace {

using namespace std::chrono_literals;
using protocol::FrameHeader;
using protocol::FrameType;

/// A connection carries one exec, so any name does.
constexpr std::uint32_t exec_id = 1;
/// For the machine's process to take a connection, and what is sent.
constexpr timeval send_deadline{.tv_sec = 60, .tv_usec = 0};
constexpr auto lock_pause = 2ms;
constexpr int signal_base = 128;

/// Hello, which is said first, and one more frame behind it, in one piece.
std::vector<std::byte> with_hello(std::span<const std::byte> frame) {
  std::array<std::byte, 64> buffer;
  const auto hello = protocol::encode_frame(buffer, FrameType::hello, 0, protocol::Hello{});
  std::vector<std::byte> bytes(hello.begin(), hello.end());
  bytes.insert(bytes.end(), frame.begin(), frame.end());
  return bytes;
}

ExitStatus status_of(const protocol::Exited& exited) {
  ExitStatus status;
  const int value = static_cast<int>(exited.value & 0xFF);
  if ((exited.flags & protocol::Exited::by_signal) != 0) status.signal = value;
  status.code = status.signal != 0 ? signal_base + value : value;
  status.out_of_memory = (exited.flags & protocol::Exited::out_of_memory) != 0;
  return status;
}

}  // namespace

MachineClient::MachineClient(std::string name) : name_(std::move(name)) {
  if (!is_machine_name(name_)) throw std::runtime_error(fmt::format("machine {}: there is none", name_));
  const std::string path = StateDirectory::default_path() + "/" + name_;
  directory_ = UniqueFd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory_) fail_unanswered();
  connect();
}

void MachineClient::connect() {
  socket_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket_) throw_errno("machine " + name_ + ": socket");
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &send_deadline, sizeof send_deadline);
  // Through the descriptor: the whole path may be longer than an address can be.
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/socket", directory_.get());
  std::memcpy(address.sun_path, path.c_str(), path.size());
  if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) fail_unanswered();
    throw_errno("machine " + name_ + ": connecting");
  }
  // The caller's descriptors go to that process: it must be one that could take them anyway.
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) throw_errno("machine " + name_);
  if (peer.uid != ::geteuid() && peer.uid != 0 && ::geteuid() != 0) {
    throw std::runtime_error(fmt::format("machine {}: belongs to user {}", name_, peer.uid));
  }
}

void MachineClient::fail_unanswered() const {
  const auto entry = MachineRegistry().find(name_);  // settles what a killed process left behind
  if (!entry) throw std::runtime_error(fmt::format("machine {}: there is none", name_));
  if (entry->state == MachineState::starting) {
    throw std::runtime_error(fmt::format("machine {}: is still being built", name_));
  }
  // Its socket is the first that a machine gives up: one that still runs then is about to end.
  if (entry->state == MachineState::running && !wait_until_gone(take_down_deadline)) {
    throw std::runtime_error(fmt::format("machine {}: does not take connections", name_));
  }
  throw MachineEnded(fmt::format("machine {}: has ended", name_));
}

void MachineClient::exec(const Command& command, const Streams& streams, std::uint16_t rows, std::uint16_t columns,
                         bool keep) {
  protocol::Exec request;
  request.rows = rows;
  request.columns = columns;
  std::vector<int> descriptors;
  const auto pass = [&](int fd) -> std::uint32_t {
    if (fd < 0 || ::fcntl(fd, F_GETFD) < 0) return 0;
    descriptors.push_back(fd);
    return static_cast<std::uint32_t>(descriptors.size());
  };
  request.stdin_port = pass(streams.input);
  request.stdout_port = pass(streams.output);
  if (!command.tty) request.stderr_port = pass(streams.error);
  Upload upload;
  if (!command.upload.empty()) {
    upload = open_upload(command.upload);
    request.program_port = pass(upload.file.get());
    request.program_size = upload.size;
  }
  std::vector<std::byte> bytes = with_hello(encode_exec(exec_id, command, request, upload.needs));
  if (keep) {
    std::array<std::byte, FrameHeader::size> buffer;
    const auto frame = protocol::encode_frame(buffer, FrameType::keep, exec_id, protocol::Empty{});
    bytes.insert(bytes.end(), frame.begin(), frame.end());
  }
  send(bytes, descriptors);
}

void MachineClient::signal(int number) {
  send_frame(FrameType::signal, protocol::Signal{static_cast<std::uint32_t>(number)});
}

void MachineClient::resize(std::uint16_t rows, std::uint16_t columns) {
  send_frame(FrameType::resize, protocol::Resize{rows, columns});
}

void MachineClient::watch() { send_frame(FrameType::watch, protocol::Empty{}); }

void MachineClient::stop(std::chrono::milliseconds deadline) {
  send_frame(FrameType::stop, protocol::Stop{static_cast<std::uint32_t>(deadline.count())});
}

void MachineClient::ask_statistics() { send_frame(FrameType::ask_stats, protocol::Empty{}); }

void MachineClient::kill() { send_frame(FrameType::kill, protocol::Empty{}); }

template <typename Message>
void MachineClient::send_frame(FrameType type, const Message& message) {
  std::array<std::byte, 256> buffer;
  const auto frame = protocol::encode_frame(buffer, type, exec_id, message);
  if (greeted_) {
    send(frame);
  } else {
    send(with_hello(frame));
  }
}

void MachineClient::send(std::span<const std::byte> bytes, std::span<const int> descriptors) {
  greeted_ = true;
  while (!bytes.empty()) {
    iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(protocol::machine_socket::max_descriptors * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
      std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
    }
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    // Closed on the other side: what it said before is worth more than this.
    if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) return;
    if (sent < 0) throw_errno("machine " + name_ + ": sending");
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
    descriptors = {};
  }
}

bool MachineClient::receive(const Events& events) {
  std::array<std::byte, 4096> bytes;
  const ssize_t size = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
  if (size < 0 && errno == EINTR) return true;
  if (size <= 0) return false;
  const auto on = [&](const FrameHeader& header, std::span<const std::byte> payload) {
    return on_frame(header, payload, events);
  };
  if (!incoming_.take(std::span(bytes).first(static_cast<std::size_t>(size)), on)) {
    throw std::runtime_error(fmt::format("machine {}: does not speak protocol {}", name_, protocol::version));
  }
  return true;
}

bool MachineClient::on_frame(const FrameHeader& header, std::span<const std::byte> payload, const Events& events) {
  const protocol::Reader reader(payload);
  switch (header.type) {
    case FrameType::welcome: {
      const auto welcome = protocol::Welcome::decode(reader);
      welcomed_ = welcome.has_value();
      return welcome && welcome->version == protocol::version;
    }
    case FrameType::started:
      events.started();
      return true;
    case FrameType::exited:
      if (const auto exited = protocol::Exited::decode(reader)) events.exited(status_of(*exited));
      return true;
    case FrameType::refused:
      welcomed_ = true;
      if (const auto refused = protocol::Refused::decode(reader)) {
        events.refused(static_cast<int>(refused->exit_code), fmt::format("machine {}: {}", name_, refused->reason));
      }
      return true;
    case FrameType::ended:
      if (const auto ended = protocol::Ended::decode(reader)) events.ended(static_cast<int>(ended->exit_code));
      return true;
    case FrameType::stats: {
      MachineStatistics statistics;
      const bool understood = protocol::Stats::decode(
          reader, [&](std::string_view name, std::uint64_t value) { statistics.emplace_back(name, value); });
      if (understood) events.statistics(statistics);
      return understood;
    }
    default:  // from a later version
      return true;
  }
}

bool MachineClient::wait_until_gone(std::chrono::milliseconds deadline) const {
  // The file itself, not its name, which the next machine may take.
  const std::string path = fmt::format("/proc/self/fd/{}/lock", directory_.get());
  const UniqueFd lock(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!lock) return true;
  const StateDirectory state;
  for (const auto end = std::chrono::steady_clock::now() + deadline;;) {
    {
      // Those who judge whether a machine lives must not find the lock taken by us.
      const StateDirectory::Lock quiet = state.lock();
      if (::flock(lock.get(), LOCK_SH | LOCK_NB) == 0) {
        ::flock(lock.get(), LOCK_UN);
        return true;
      }
    }
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(lock_pause);
  }
}

}  // namespace minivm

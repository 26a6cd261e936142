#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/unix_socket.h"
#include "devices/virtio/vsock.h"

namespace minivm {

/// The guest port that "CONNECT <port>\n" asks for; nothing when `line`, without its newline, says anything else.
std::optional<std::uint32_t> parse_connect(std::string_view line);

/// Lets programs of the host reach the guest's vsock ports and the other way round, with the handshake that Firecracker
/// made a habit of: who connects to the Unix socket PATH says "CONNECT <port>\n", hears "OK <host port>\n", and talks
/// to that port of the guest from then on; a connection of the guest to host port P goes to the Unix socket PATH_P. The
/// socket itself is the host end of the vsock connection, so half-closes pass both ways and no thread copies bytes.
/// Event-loop thread.
class VsockDoor {
 public:
  /// Connections at a time, both ways and unfinished handshakes included: what is above it is turned away.
  static constexpr std::size_t max_connections = 512;
  static constexpr std::size_t max_line = 32;  // bytes of the CONNECT line, newline included
  static constexpr std::chrono::milliseconds default_patience{5000};
  static constexpr std::size_t max_path = max_unix_path - std::string_view("_4294967295").size();

  /// `patience`: how long a caller may take for its line. Throws std::runtime_error that names `path`.
  VsockDoor(virtio::Vsock& vsock, EventLoop& loop, const std::string& path,
            std::chrono::milliseconds patience = default_patience);
  ~VsockDoor();
  VsockDoor(const VsockDoor&) = delete;
  VsockDoor& operator=(const VsockDoor&) = delete;

 private:
  /// One whose line is not complete yet.
  struct Caller {
    UniqueFd socket;
    EventLoop::TimerId timer = 0;
  };

  void on_callers();
  void greet(UniqueFd socket);
  void on_line(int fd, bool ended);
  void connect(UniqueFd socket, std::uint32_t guest_port);
  UniqueFd take(int fd) noexcept;
  std::shared_ptr<virtio::VsockEndpoint> dial_host(std::uint32_t host_port);
  bool full() const noexcept { return callers_.size() + *connections_ >= max_connections; }

  virtio::Vsock& vsock_;
  EventLoop& loop_;
  std::chrono::milliseconds patience_;
  UnixListener listener_;
  std::map<int, Caller> callers_;
  EventLoop::TimerId pause_ = 0;
  std::shared_ptr<std::size_t> connections_ = std::make_shared<std::size_t>(0);  // they may outlive the door
};

}  // namespace minivm

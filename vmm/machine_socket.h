#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "base/event_loop.h"
#include "base/fd.h"
#include "vmm/command_channel.h"
#include "vmm/socket_client.h"

namespace minivm {

/// The control socket of a machine that has a name: other processes of the same user run commands in it and end it
/// (protocol/machine_socket.h). Whatever a client sends, or does not send, costs the machine no more than the client's
/// own buffers, which are bounded. Event-loop thread.
class MachineSocket {
 public:
  static constexpr std::size_t max_clients = 512;
  /// For a client to say what it wants: long, because it may be one of hundreds that share a processor.
  static constexpr std::chrono::seconds request_deadline{60};

  /// `listener` is a listening, non-blocking Unix stream socket. `channel` and `loop` outlive this object.
  MachineSocket(UniqueFd listener, EventLoop& loop, CommandChannel& channel, SocketClient::Requests requests);
  ~MachineSocket();
  MachineSocket(const MachineSocket&) = delete;
  MachineSocket& operator=(const MachineSocket&) = delete;

  /// Tells every client that this is the end, and how. After the loop has ended.
  void announce_end(int exit_code, const std::string& reason);

 private:
  using Key = std::uint64_t;
  struct Entry {
    std::unique_ptr<SocketClient> client;
    EventLoop::TimerId deadline = 0;
  };

  void accept_clients();
  bool is_welcome(int socket) const;
  void add_client(UniqueFd socket);
  SocketClient* find(Key key);
  void on_readable(Key key);
  void on_deadline(Key key);
  void drop(Key key);

  EventLoop& loop_;
  CommandChannel& channel_;
  SocketClient::Requests requests_;
  UniqueFd listener_;
  std::unordered_map<Key, Entry> clients_;
  Key next_key_ = 1;
  /// Outlives this object in tasks that were posted; then null.
  std::shared_ptr<MachineSocket*> self_;
};

}  // namespace minivm

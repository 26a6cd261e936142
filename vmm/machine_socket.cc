#include "vmm/machine_socket.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/log.h"

namespace minivm {
namespace {

using namespace std::chrono_literals;

/// For one call, so that a flood of connections does not keep the loop.
constexpr int max_accepts = 16;
/// How long no connection is taken when the process has no descriptor for one.
constexpr auto pause_without_descriptors = 100ms;

}  // namespace

MachineSocket::MachineSocket(UniqueFd listener, EventLoop& loop, CommandChannel& channel,
                             SocketClient::Requests requests)
    : loop_(loop),
      channel_(channel),
      requests_(std::move(requests)),
      listener_(std::move(listener)),
      self_(std::make_shared<MachineSocket*>(this)) {
  loop_.watch(listener_.get(), EPOLLIN, [this](std::uint32_t) { accept_clients(); });
}

MachineSocket::~MachineSocket() {
  *self_ = nullptr;
  loop_.unwatch(listener_.get());
  for (const auto& [key, entry] : clients_) loop_.unwatch(entry.client->fd());
}

void MachineSocket::accept_clients() {
  for (int i = 0; i < max_accepts; ++i) {
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket) {
      if (is_welcome(socket.get())) add_client(std::move(socket));
      continue;
    }
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
    log::info("control socket: accept: {}", std::generic_category().message(errno));
    loop_.rearm(listener_.get(), 0);
    loop_.after(pause_without_descriptors, [self = self_] {
      if (*self != nullptr) (*self)->loop_.rearm((*self)->listener_.get(), EPOLLIN);
    });
    return;
  }
}

/// The socket's directory lets nobody else in; this is the second lock on the door.
bool MachineSocket::is_welcome(int socket) const {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == ::geteuid() || peer.uid == 0;
}

void MachineSocket::add_client(UniqueFd socket) {
  const Key key = next_key_++;
  const auto later = [self = self_, key](const std::function<void(SocketClient&)>& task) {
    SocketClient* const client = *self == nullptr ? nullptr : (*self)->find(key);
    if (client != nullptr) task(*client);
  };
  auto client = std::make_unique<SocketClient>(std::move(socket), channel_, requests_, later);
  if (clients_.size() >= max_clients) return client->refuse(ExecOutcome::launcher_failed, "has too many clients");
  loop_.watch(client->fd(), EPOLLIN, [this, key](std::uint32_t) { on_readable(key); });
  const auto timer = loop_.after(request_deadline, [self = self_, key] {
    if (*self != nullptr) (*self)->on_deadline(key);
  });
  clients_.emplace(key, Entry{std::move(client), timer});
}

SocketClient* MachineSocket::find(Key key) {
  const auto found = clients_.find(key);
  return found == clients_.end() ? nullptr : found->second.client.get();
}

void MachineSocket::on_readable(Key key) {
  SocketClient* const client = find(key);
  if (client != nullptr && !client->receive()) drop(key);
}

void MachineSocket::on_deadline(Key key) {
  // What it says may have come, and waited for a loop that was busy.
  on_readable(key);
  const SocketClient* const client = find(key);
  if (client != nullptr && !client->served()) drop(key);
}

void MachineSocket::drop(Key key) {
  const auto entry = clients_.extract(key);
  const Entry& gone = entry.mapped();
  loop_.cancel(gone.deadline);
  loop_.unwatch(gone.client->fd());
  gone.client->abandon();
}

void MachineSocket::announce_end(int exit_code, const std::string& reason) {
  for (const auto& [key, entry] : clients_) entry.client->announce_end(exit_code, reason);
}

}  // namespace minivm

#include "guest-init/relay.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace minivm::guest {
namespace {

/// Buffers that one turn may move before the other descriptors get theirs.
constexpr int rounds_per_turn = 8;

bool would_block() noexcept { return errno == EAGAIN || errno == EINTR; }

}  // namespace

void Relay::start(std::span<std::byte> buffer) noexcept {
  *this = Relay{};
  buffer_ = buffer;
}

void Relay::drain(std::size_t limit) noexcept {
  limit_ = limit;
  draining_ = true;
}

Relay::Flow Relay::pump(int source, int sink) noexcept {
  if (const Flow flow = flush(sink); flow != Flow::yielded) return flow;
  for (int round = 0; round < rounds_per_turn; ++round) {
    switch (take(source)) {
      case Taken::nothing:
        return Flow::waiting;
      case Taken::end:
        return Flow::ended;
      case Taken::bytes:
        break;
    }
    if (const Flow flow = flush(sink); flow != Flow::yielded) return flow;
  }
  return Flow::yielded;
}

Relay::Taken Relay::take(int source) noexcept {
  const std::size_t room = std::min(buffer_.size(), limit_);
  if (room == 0) return Taken::end;
  const ssize_t count = read(source, buffer_.data(), room);
  if (count > 0) {
    begin_ = 0;
    end_ = static_cast<std::size_t>(count);
    at_line_start_ = buffer_[end_ - 1] == std::byte{'\n'};
    if (draining_) limit_ -= end_;
    return Taken::bytes;
  }
  // A pty's master says EIO while no one has the terminal open, but a program may open it again.
  const bool pause = count < 0 && (would_block() || errno == EIO);
  return pause && !draining_ ? Taken::nothing : Taken::end;
}

Relay::Flow Relay::flush(int sink) noexcept {
  while (begin_ < end_) {
    // SIGPIPE is blocked in this process.
    const ssize_t count = write(sink, buffer_.data() + begin_, end_ - begin_);
    if (count < 0) return would_block() ? Flow::waiting : Flow::refused;
    begin_ += static_cast<std::size_t>(count);
  }
  return Flow::yielded;
}

bool reader_is_gone(int socket) noexcept {
  // An empty send moves nothing, yet meets the same checks.
  return send(socket, "", 0, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && !would_block();
}

}  // namespace minivm::guest

#include "vmm/console_output.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>

namespace minivm {

ConsoleOutput::ConsoleOutput(EventLoop& loop, HostFile sink) : loop_(loop), sink_(std::move(sink)) { closed_ = !sink_; }

bool ConsoleOutput::write(std::span<const std::byte> bytes) {
  {
    const std::lock_guard lock(mutex_);
    log_.append(bytes);
    if (closed_) return true;
    // A driver that sends to a busy UART loses what it sends, as with a real one.
    const std::size_t room = max_pending - pending_.size();
    const auto kept = bytes.first(std::min(bytes.size(), room));
    pending_.insert(pending_.end(), kept.begin(), kept.end());
    full_ = pending_.size() == max_pending;
    if (flush_posted_) return !full_;
    flush_posted_ = true;
  }
  loop_.post([this] { flush(); });
  return true;
}

std::size_t ConsoleOutput::room() const {
  const std::lock_guard lock(mutex_);
  return closed_ ? max_pending : max_pending - pending_.size();
}

void ConsoleOutput::flush() {
  bool blocked = false;
  bool room = false;
  {
    const std::lock_guard lock(mutex_);
    write_now();
    blocked = !pending_.empty();
    flush_posted_ = blocked;
    room = full_ && pending_.size() < max_pending / 2;
    if (room) full_ = false;
  }
  // A file that epoll refuses never blocks.
  if (blocked && !watched_) {
    watched_ = loop_.watch(sink_.fd(), EPOLLOUT, [this](std::uint32_t) { flush(); });
  } else if (!blocked && watched_) {
    loop_.unwatch(sink_.fd());
    watched_ = false;
  }
  if (room && on_room_) on_room_();
}

void ConsoleOutput::write_now() {
  while (!pending_.empty() && !closed_) {
    const iovec part{pending_.data(), pending_.size()};
    const ssize_t written = sink_.write({&part, 1});
    if (written < 0 && errno == EAGAIN) return;
    if (written <= 0) closed_ = true;  // the reader is gone: the guest goes on without it
    pending_.erase(pending_.begin(), pending_.begin() + std::max<ssize_t>(written, 0));
  }
  if (closed_) pending_.clear();
}

void ConsoleOutput::close() {
  const std::lock_guard lock(mutex_);
  write_now();
  closed_ = true;
}

std::vector<std::string> ConsoleOutput::last_lines(std::size_t count) const {
  const std::lock_guard lock(mutex_);
  return log_.last_lines(count);
}

bool ConsoleOutput::panicked() const {
  const std::lock_guard lock(mutex_);
  return log_.panicked();
}

}  // namespace minivm

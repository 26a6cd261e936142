#include "cli/console_input.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace minivm {

ConsoleInput::ConsoleInput(EventLoop& loop, InputPort& port, HostFile source, bool is_terminal, Events events)
    : loop_(loop), port_(port), source_(std::move(source)), is_terminal_(is_terminal), events_(std::move(events)) {
  if (!source_) return;
  port_.on_room([this] { loop_.post([this] { push(); }); });
  // A regular file is always ready: it is read as the guest makes room.
  if (!loop_.watch(source_.fd(), EPOLLIN, [this](std::uint32_t) { read_some(); })) {
    loop_.post([this] { read_some(); });
  }
}

void ConsoleInput::read_some() {
  std::array<std::byte, 256> bytes;
  const iovec part{bytes.data(), bytes.size()};
  const ssize_t size = source_.read({&part, 1});
  if (size < 0 && errno == EAGAIN) return;
  if (size <= 0) return end();
  waiting_ = without_escapes(std::span(bytes).first(static_cast<std::size_t>(size)));
  push();
}

std::vector<std::byte> ConsoleInput::without_escapes(std::span<const std::byte> bytes) {
  std::vector<std::byte> kept;
  for (const std::byte key : bytes) {
    if (!is_terminal_ || (key != escape_key && !escaped_)) {
      kept.push_back(key);
    } else if (!escaped_) {
      escaped_ = true;
    } else {
      escaped_ = false;
      if (key == escape_key) kept.push_back(key);
      if (key == std::byte{'x'} || key == std::byte{'X'}) events_.quit();
    }
  }
  return kept;
}

void ConsoleInput::push() {
  if (!source_) return;
  const std::size_t size = std::min(port_.room(), waiting_.size());
  port_.push_input(std::span(waiting_).first(size));
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(size));
  // Not read while something waits: the sender feels the guest's pace.
  loop_.rearm(source_.fd(), waiting_.empty() ? static_cast<std::uint32_t>(EPOLLIN) : 0);
  if (waiting_.empty() && !is_terminal_)
    loop_.post([this] {
      if (source_ && waiting_.empty()) read_some();
    });
}

void ConsoleInput::end() {
  loop_.unwatch(source_.fd());
  source_ = {};
  if (is_terminal_) events_.terminal_lost();
}

}  // namespace minivm

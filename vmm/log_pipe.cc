#include "vmm/log_pipe.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace minivm {

LogPipe::LogPipe(OnBytes on_bytes) : on_bytes_(std::move(on_bytes)) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) throw_errno("pipe");
  reader_ = UniqueFd(ends[0]);
  writer_ = UniqueFd(ends[1]);
}

LogPipe::~LogPipe() {
  // Bounded by what a pipe holds.
  while (read_some()) {
  }
}

void LogPipe::watch(EventLoop& loop) {
  loop.watch(reader_.get(), EPOLLIN, [this, &loop](std::uint32_t) {
    const bool more = read_some() || errno == EAGAIN;
    if (!more) loop.unwatch(reader_.get());  // every writer has closed it
  });
}

bool LogPipe::read_some() {
  std::array<std::byte, 32768> bytes;
  errno = 0;
  const ssize_t size = ::read(reader_.get(), bytes.data(), bytes.size());
  if (size > 0) on_bytes_(std::span(bytes).first(static_cast<std::size_t>(size)));
  return size > 0;
}

}  // namespace minivm

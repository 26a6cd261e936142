#include "devices/virtio/vsock_fd.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <exception>
#include <utility>

#include "base/log.h"

namespace minivm::virtio {
namespace {

/// Whether two descriptors are ends of the same connection: then it is nobody else's, and may be shut down.
bool same_socket(const HostFile& one, const HostFile& other) noexcept {
  struct stat a {};
  struct stat b {};
  if (!one || !other || ::fstat(one.fd(), &a) != 0 || ::fstat(other.fd(), &b) != 0) return false;
  return S_ISSOCK(a.st_mode) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

bool hung_up(int fd) noexcept {
  pollfd poll{.fd = fd, .events = 0, .revents = 0};
  return ::poll(&poll, 1, 0) > 0 && (poll.revents & POLLHUP) != 0;
}

/// A host file and its place in the event loop, which is asked only while the file is not ready. EPOLLONESHOT keeps
/// a hang-up, which cannot be masked, from being reported over and over.
class WaitingFile {
 public:
  WaitingFile(EventLoop& loop, HostFile file) noexcept : loop_(loop), file_(std::move(file)) {}
  ~WaitingFile() { close(); }
  WaitingFile(const WaitingFile&) = delete;
  WaitingFile& operator=(const WaitingFile&) = delete;

  explicit operator bool() const noexcept { return static_cast<bool>(file_); }
  const HostFile& file() const noexcept { return file_; }

  /// Calls `handler` once when one of `events` has come. False when this file cannot be waited for. The handler of the
  /// first call serves all later ones.
  bool wait(std::uint32_t events, EventLoop::Handler handler) noexcept {
    events |= EPOLLONESHOT;
    if (watched_) {
      loop_.rearm(file_.fd(), events);
      return true;
    }
    try {
      watched_ = loop_.watch(file_.fd(), events, std::move(handler));
    } catch (const std::exception& error) {
      log::warning("waiting for a stream's host end: {}", error.what());
    }
    return watched_;
  }

  void close() noexcept {
    if (std::exchange(watched_, false)) loop_.unwatch(file_.fd());
    file_ = HostFile();
  }

 private:
  EventLoop& loop_;
  HostFile file_;
  bool watched_ = false;
};

class FdEndpoint final : public VsockEndpoint {
 public:
  FdEndpoint(EventLoop& loop, HostFile source, HostFile sink, std::move_only_function<void(int error)> done)
      : own_connection_(same_socket(source, sink)),
        source_(loop, std::move(source)),
        sink_(loop, std::move(sink)),
        discards_(!sink_),
        done_(std::move(done)) {}

  void attached(VsockStream& stream) noexcept override { stream_ = &stream; }

  std::size_t receive(std::span<const iovec> data) noexcept override {
    if (discards_) return size_of(data);
    if (!sink_) return 0;
    const ssize_t written = sink_.file().write(data);
    const int error = written < 0 ? errno : 0;
    if (error != 0 && error != EAGAIN) {
      break_sink(error);
      return 0;
    }
    const auto taken = static_cast<std::size_t>(written < 0 ? 0 : written);
    if (taken < size_of(data) && !sink_.wait(EPOLLOUT, [this](std::uint32_t) { stream_->resume_receive(); })) {
      // A file that is always ready, but took a part: ENOSPC and the like show at the next try.
      if (taken != 0)
        stream_->resume_receive();
      else
        break_sink(EAGAIN);
    }
    return taken;
  }

  void receive_ended() noexcept override {
    if (own_connection_ && sink_) ::shutdown(sink_.file().fd(), SHUT_WR);
    sink_.close();
    finish(0);
  }

  Filled fill(std::span<const iovec> space) noexcept override {
    if (!source_) return {.end = true};
    const ssize_t size = source_.file().read(space);
    if (size > 0) return {.size = static_cast<std::size_t>(size)};
    const bool later = size < 0 && errno == EAGAIN;
    if (later && source_.wait(EPOLLIN, [this](std::uint32_t) { stream_->resume_fill(); })) return {};
    // An error is an end as well: a terminal that hung up says EIO, a connection that broke ECONNRESET.
    if (own_connection_ && sink_ && hung_up(sink_.file().fd())) break_sink(EPIPE);
    source_.close();
    return {.end = true};
  }

  void fill_ended() noexcept override {
    if (own_connection_ && source_) ::shutdown(source_.file().fd(), SHUT_RD);
    source_.close();
  }

  void closed(bool clean) noexcept override {
    stream_ = nullptr;
    source_.close();
    const bool cut_off = sink_ && !clean;
    sink_.close();
    finish(cut_off ? ECONNRESET : 0);
  }

 private:
  static std::size_t size_of(std::span<const iovec> parts) noexcept {
    std::size_t size = 0;
    for (const iovec& part : parts) size += part.iov_len;
    return size;
  }

  void break_sink(int error) noexcept {
    sink_.close();
    stream_->end_receive();
    finish(error);
  }

  void finish(int error) noexcept {
    if (done_) std::exchange(done_, nullptr)(error);
  }

  VsockStream* stream_ = nullptr;
  bool own_connection_;
  WaitingFile source_;
  WaitingFile sink_;
  bool discards_;  // there never was a sink
  std::move_only_function<void(int error)> done_;
};

}  // namespace

std::shared_ptr<VsockEndpoint> make_fd_endpoint(EventLoop& loop, HostFile source, HostFile sink,
                                                std::move_only_function<void(int error)> done) {
  return std::make_shared<FdEndpoint>(loop, std::move(source), std::move(sink), std::move(done));
}

}  // namespace minivm::virtio

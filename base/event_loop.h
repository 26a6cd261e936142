#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/fd.h"

namespace minivm {

/// One thread's epoll loop: fd handlers, deadlines, and closures posted by other threads.
/// Only `post`, `run_sync` and `stop` may be called from other threads; the rest belongs to the thread in `run`, or to
/// the building thread before `run`.
class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using Handler = std::move_only_function<void(std::uint32_t epoll_events)>;
  using Task = std::move_only_function<void()>;
  using TimerId = std::uint64_t;

  EventLoop();

  /// Calls `handler` whenever one of `epoll_events` is ready. False when epoll cannot watch this kind of file
  /// (regular files: they are always ready); throws std::system_error on any other failure.
  bool watch(int fd, std::uint32_t epoll_events, Handler handler);
  /// Changes what a watched fd is watched for; 0 keeps the handler and silences it (EPOLLERR and EPOLLHUP still come).
  void rearm(int fd, std::uint32_t epoll_events) noexcept;
  /// Safe inside any handler, this fd's own included. Call it before the fd is closed.
  void unwatch(int fd) noexcept;

  /// Runs `task` once, `delay` from now.
  TimerId after(Clock::duration delay, Task task);
  void cancel(TimerId id) noexcept;

  /// Queues `task` for the loop's thread. False, and `task` is dropped, when the loop has ended.
  bool post(Task task);
  /// Runs `task` on the loop's thread and waits until it is done; at once when called there. False when the loop has
  /// ended before it could run. The loop's thread must never wait for a caller of this.
  bool run_sync(const std::function<void()>& task);

  /// Handles events until `stop`. Tasks that were posted before the end still run.
  void run();
  void stop();

 private:
  struct Watched {
    Handler handler;
  };

  int wait_milliseconds() const noexcept;
  void run_timers();
  void run_tasks();
  bool on_loop_thread() const noexcept;

  UniqueFd epoll_;
  EventFd wake_;
  std::unordered_map<int, std::shared_ptr<Watched>> watched_;
  std::map<std::pair<Clock::time_point, TimerId>, Task> timers_;
  TimerId next_timer_ = 1;

  mutable std::mutex mutex_;  // guards what follows
  std::vector<Task> tasks_;
  std::thread::id thread_;
  bool stopping_ = false;
  bool ended_ = false;
};

}  // namespace minivm

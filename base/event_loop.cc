#include "base/event_loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <span>

namespace minivm {

EventLoop::EventLoop() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_) throw_errno("epoll_create1");
  watch(wake_.fd(), EPOLLIN, [this](std::uint32_t) { wake_.drain(); });
}

bool EventLoop::watch(int fd, std::uint32_t epoll_events, Handler handler) {
  epoll_event event{.events = epoll_events, .data = {.fd = fd}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    if (errno == EPERM) return false;
    throw_errno("epoll_ctl");
  }
  watched_[fd] = std::make_shared<Watched>(Watched{std::move(handler)});
  return true;
}

void EventLoop::rearm(int fd, std::uint32_t epoll_events) noexcept {
  epoll_event event{.events = epoll_events, .data = {.fd = fd}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void EventLoop::unwatch(int fd) noexcept {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  watched_.erase(fd);
}

EventLoop::TimerId EventLoop::after(Clock::duration delay, Task task) {
  const TimerId id = next_timer_++;
  timers_.emplace(std::pair(Clock::now() + delay, id), std::move(task));
  return id;
}

void EventLoop::cancel(TimerId id) noexcept {
  std::erase_if(timers_, [id](const auto& timer) { return timer.first.second == id; });
}

bool EventLoop::post(Task task) {
  bool asleep = false;
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return false;
    tasks_.push_back(std::move(task));
    // Its own thread looks at the tasks before it sleeps.
    asleep = thread_ != std::this_thread::get_id();
  }
  if (asleep) wake_.signal();
  return true;
}

bool EventLoop::run_sync(const std::function<void()>& task) {
  if (on_loop_thread()) {
    task();
    return true;
  }
  std::mutex mutex;
  std::condition_variable condition;
  bool done = false;
  const bool posted = post([&] {
    task();
    // Notified under the lock: the waiter's condition variable dies as soon as it sees `done`.
    const std::lock_guard lock(mutex);
    done = true;
    condition.notify_one();
  });
  if (!posted) return false;
  std::unique_lock lock(mutex);
  condition.wait(lock, [&] { return done; });
  return true;
}

void EventLoop::run() {
  {
    const std::lock_guard lock(mutex_);
    thread_ = std::this_thread::get_id();
  }
  for (bool stopping = false; !stopping;) {
    run_tasks();
    run_timers();
    std::array<epoll_event, 64> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), wait_milliseconds());
    if (count < 0 && errno != EINTR) throw_errno("epoll_wait");
    for (const epoll_event& event : std::span(events).first(static_cast<std::size_t>(std::max(count, 0)))) {
      // Looked up anew for each event: an earlier handler of this round may have unwatched it.
      const auto found = watched_.find(event.data.fd);
      if (found == watched_.end()) continue;
      const auto keep_alive = found->second;
      keep_alive->handler(event.events);
    }
    const std::lock_guard lock(mutex_);
    stopping = stopping_;
  }
  for (bool empty = false; !empty;) {
    run_tasks();
    const std::lock_guard lock(mutex_);
    empty = tasks_.empty();
    ended_ = empty;
  }
}

void EventLoop::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.signal();
}

int EventLoop::wait_milliseconds() const noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || !tasks_.empty()) return 0;
  }
  if (timers_.empty()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first.first - Clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 60'000));
}

void EventLoop::run_timers() {
  while (!timers_.empty() && timers_.begin()->first.first <= Clock::now()) {
    auto due = timers_.extract(timers_.begin());
    due.mapped()();
  }
}

void EventLoop::run_tasks() {
  std::vector<Task> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
  }
  for (Task& task : tasks) task();
}

bool EventLoop::on_loop_thread() const noexcept {
  const std::lock_guard lock(mutex_);
  return thread_ == std::this_thread::get_id();
}

}  // namespace minivm

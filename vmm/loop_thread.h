#pragma once

#include <pthread.h>

#include <string>
#include <thread>

#include "base/event_loop.h"

namespace minivm {

/// An event loop with a thread of its own, for devices whose system calls may block. The thread starts with `start`
/// and ends, after the tasks that were posted, with `stop`, at the latest with the object.
class LoopThread {
 public:
  explicit LoopThread(std::string name) : name_(std::move(name)) {}
  ~LoopThread() { stop(); }
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;

  EventLoop& loop() noexcept { return loop_; }

  void start() {
    thread_ = std::thread([this] { loop_.run(); });
    ::pthread_setname_np(thread_.native_handle(), name_.substr(0, 15).c_str());
  }

  void stop() {
    loop_.stop();
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::string name_;
  EventLoop loop_;
  std::thread thread_;
};

}  // namespace minivm

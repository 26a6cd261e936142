#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "base/event_loop.h"
#include "base/fd.h"

namespace minivm {

/// A pipe whose reader is this process: what is written to it, by whoever takes a descriptor for output, is handed to
/// a function. Loop's thread.
class LogPipe {
 public:
  using OnBytes = std::function<void(std::span<const std::byte> bytes)>;

  explicit LogPipe(OnBytes on_bytes);
  /// Hands over what is still in it.
  ~LogPipe();
  LogPipe(const LogPipe&) = delete;
  LogPipe& operator=(const LogPipe&) = delete;

  /// Once; the loop must not run any more when this object ends.
  void watch(EventLoop& loop);
  /// The writer's end; a duplicate of it may outlive this object.
  int writer() const noexcept { return writer_.get(); }
  UniqueFd take_writer() noexcept { return std::move(writer_); }

 private:
  bool read_some();

  OnBytes on_bytes_;
  UniqueFd reader_;
  UniqueFd writer_;
};

}  // namespace minivm

#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/host_file.h"
#include "vmm/console_log.h"

namespace minivm {

/// Carries the output of the guest's console to a file of the host, in batches, and remembers the end of it. Neither
/// the vCPU that writes nor the loop ever waits for the reader: when too much is pending, the guest is made to wait.
class ConsoleOutput {
 public:
  static constexpr std::size_t max_pending = std::size_t{64} << 10;

  /// Without a `sink` the output is only remembered.
  ConsoleOutput(EventLoop& loop, HostFile sink);

  /// Called, on the loop's thread, when there is room again after `write` said that there is none.
  void on_room(std::function<void()> on_room) { on_room_ = std::move(on_room); }

  /// False when no more should come before `on_room`: what does not fit by then is remembered, but not carried. Any
  /// thread.
  bool write(std::span<const std::byte> bytes);
  /// How many bytes `write` would carry now; `on_room` follows when there are none. Any thread.
  std::size_t room() const;
  /// Writes what is pending as far as the sink takes it at once, and nothing from then on. Loop's thread, or after it.
  void close();

  std::vector<std::string> last_lines(std::size_t count) const;
  bool panicked() const;

 private:
  void flush();
  void write_now();

  EventLoop& loop_;
  HostFile sink_;
  std::function<void()> on_room_;
  bool watched_ = false;      // for room in the sink; loop's thread
  mutable std::mutex mutex_;  // guards what follows
  ConsoleLog log_;
  std::vector<std::byte> pending_;
  bool flush_posted_ = false;
  bool full_ = false;
  bool closed_ = false;
};

}  // namespace minivm

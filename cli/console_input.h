#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "base/event_loop.h"
#include "base/host_file.h"
#include "devices/input_port.h"

namespace minivm {

/// Carries the terminal's keys, or a pipe's bytes, to the guest's console, no faster than the guest takes them.
/// On a terminal Ctrl-A is the escape key: `Ctrl-A x` asks to end, `Ctrl-A Ctrl-A` sends one. Loop's thread.
class ConsoleInput {
 public:
  struct Events {
    std::function<void()> quit;           // Ctrl-A x
    std::function<void()> terminal_lost;  // the terminal hung up
  };

  ConsoleInput(EventLoop& loop, InputPort& port, HostFile source, bool is_terminal, Events events);

 private:
  static constexpr std::byte escape_key{1};

  void read_some();
  std::vector<std::byte> without_escapes(std::span<const std::byte> bytes);
  void push();
  void end();

  EventLoop& loop_;
  InputPort& port_;
  HostFile source_;
  bool is_terminal_;
  Events events_;
  bool escaped_ = false;            // the last key was Ctrl-A
  std::vector<std::byte> waiting_;  // read, but the guest had no room: at most one read
};

}  // namespace minivm

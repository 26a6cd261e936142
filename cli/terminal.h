#pragma once

#include <termios.h>

#include <cstdint>
#include <optional>

namespace minivm {

struct TerminalSize {
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;
};

/// The size of the terminal behind `fd`; zeros when it is none.
TerminalSize terminal_size(int fd) noexcept;

/// Puts the terminal into raw mode while it lives. The old mode comes back with its end, with `exit`, and when minivm
/// dies of a signal that it can still handle; nothing can help after SIGKILL. One at a time.
class RawTerminal {
 public:
  /// Throws std::system_error when `fd` is no terminal.
  explicit RawTerminal(int fd);
  ~RawTerminal();

  /// The old mode, while this process is stopped, and raw again after it.
  void pause() noexcept;
  void resume() noexcept;

  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
};

}  // namespace minivm

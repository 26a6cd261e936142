#pragma once

#include <cstdint>

#include "freestanding/fd.h"

namespace minivm::guest {

/// A pseudo-terminal: `master` is ours and non-blocking, `slave` is for the program.
struct Terminal {
  Fd master;
  Fd slave;
};

struct WindowSize {
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;
};

/// Both ends are empty and errno tells why when there is no terminal to have.
Terminal open_terminal(WindowSize size) noexcept;

/// The foreground group gets SIGWINCH when the size changes.
void resize_terminal(int master, WindowSize size) noexcept;

}  // namespace minivm::guest

#include "guest-init/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "guest-init/file.h"

namespace minivm::guest {

Terminal open_terminal(WindowSize size) noexcept {
  Terminal terminal;
  Fd master = open_file("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
  if (!master) return terminal;
  int locked = 0;
  if (ioctl(master.get(), TIOCSPTLCK, &locked) != 0) return terminal;
  // By descriptor: the path of the slave depends on which devpts is mounted where.
  Fd slave(ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!slave) return terminal;
  termios modes{};
  if (tcgetattr(slave.get(), &modes) == 0) {
    modes.c_iflag |= IUTF8;  // erase whole characters when a line is edited
    tcsetattr(slave.get(), TCSANOW, &modes);
  }
  resize_terminal(master.get(), size);
  terminal.master = std::move(master);
  terminal.slave = std::move(slave);
  return terminal;
}

void resize_terminal(int master, WindowSize size) noexcept {
  winsize window{};
  window.ws_row = size.rows;
  window.ws_col = size.columns;
  ioctl(master, TIOCSWINSZ, &window);
}

}  // namespace minivm::guest

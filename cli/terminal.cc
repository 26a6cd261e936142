#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>

#include "base/fd.h"

namespace minivm {
namespace {

// What a signal handler needs: set before the flag that publishes it.
termios saved_mode;
int saved_fd = -1;
std::atomic<bool> is_raw{false};

void restore() noexcept {
  // TCSADRAIN would wait for a terminal that nobody reads any more.
  if (is_raw.exchange(false)) ::tcsetattr(saved_fd, TCSANOW, &saved_mode);
}

bool make_raw() noexcept {
  termios mode = saved_mode;
  ::cfmakeraw(&mode);
  is_raw.store(true);
  return ::tcsetattr(saved_fd, TCSANOW, &mode) == 0;
}

void restore_and_die(int number) {
  restore();
  ::signal(number, SIG_DFL);
  ::raise(number);
}

void install_crash_handlers() {
  static constexpr std::array deadly{SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
  static const bool installed = [] {
    for (const int number : deadly) ::signal(number, restore_and_die);
    return std::atexit(restore) == 0;
  }();
  static_cast<void>(installed);
}

}  // namespace

TerminalSize terminal_size(int fd) noexcept {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0) return {};
  return {size.ws_row, size.ws_col};
}

RawTerminal::RawTerminal(int fd) {
  termios mode{};
  if (::tcgetattr(fd, &mode) != 0) throw_errno("terminal");
  saved_mode = mode;
  saved_fd = fd;
  install_crash_handlers();
  if (!make_raw()) throw_errno("terminal");
}

void RawTerminal::pause() noexcept { restore(); }

void RawTerminal::resume() noexcept {
  // The user may have changed it in the meantime, and gets that back in the end.
  if (::tcgetattr(saved_fd, &saved_mode) == 0) make_raw();
}

RawTerminal::~RawTerminal() { restore(); }

}  // namespace minivm

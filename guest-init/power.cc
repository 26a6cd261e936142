#include "guest-init/power.h"

#include <sys/io.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "freestanding/text.h"
#include "guest-init/clock.h"
#include "guest-init/file.h"

namespace minivm::guest {
namespace {

constexpr std::uint32_t grace_ms = 300;
constexpr std::size_t max_mounts = 128;

/// True when every process that is ours to wait for has ended in time.
bool reap_all(std::uint32_t milliseconds) noexcept {
  for (Patience patience(milliseconds);;) {
    const pid_t pid = waitpid(-1, nullptr, WNOHANG);
    if (pid > 0) continue;
    if (pid < 0 && errno == ECHILD) return true;
    if (!patience.wait()) return false;
  }
}

void end_processes() noexcept {
  kill(-1, SIGTERM);
  kill(-1, SIGCONT);  // one that is stopped would not notice
  if (reap_all(grace_ms)) return;
  kill(-1, SIGKILL);
  reap_all(grace_ms);
}

/// From the youngest mount to the oldest. What is busy, as the root is, is at least made read-only, or the file system
/// would have to be repaired at its next mount.
void unmount_all() noexcept {
  static std::array<Path, max_mounts> points;
  std::size_t count = 0;
  Lines lines("/proc/self/mounts");  // "device point type options ..."
  while (const auto line = lines.next()) {
    std::string_view rest = *line;
    take_field(rest, ' ');
    const Path point(take_field(rest, ' '));
    const std::string_view type = take_field(rest, ' ');
    // Those hold nothing, and /proc is still being read.
    if (type == "proc" || type == "sysfs" || type == "devtmpfs" || count == max_mounts) continue;
    points[count++] = point;
  }
  while (count > 0) {
    const char* const point = points[--count].c_str();
    if (umount2(point, UMOUNT_NOFOLLOW) == 0) continue;
    mount(nullptr, point, nullptr, MS_REMOUNT | MS_RDONLY, nullptr);
  }
}

}  // namespace

void power_off(const PowerSwitch& power_switch) noexcept {
  end_processes();
  sync();
  unmount_all();
  sync();
  // First the host's port, when it named one: a kernel that cannot power off only halts, and never returns from that.
  if (power_switch.port != 0 && ioperm(power_switch.port, 1, 1) == 0) {
    outb(static_cast<unsigned char>(power_switch.value), static_cast<unsigned short>(power_switch.port));
  }
  reboot(RB_POWER_OFF);
  for (;;) pause();
}

}  // namespace minivm::guest

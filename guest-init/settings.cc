#include "guest-init/settings.h"

#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "freestanding/fd.h"
#include "guest-init/report.h"

namespace minivm::guest {
namespace {

constexpr rlim_t open_files = 524'288;

void raise_loopback() noexcept {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return;  // a kernel without IPv4
  ifreq request{};
  std::memcpy(request.ifr_name, "lo", sizeof("lo"));
  if (ioctl(socket.get(), SIOCGIFFLAGS, &request) != 0) return;
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  ioctl(socket.get(), SIOCSIFFLAGS, &request);
}

}  // namespace

void block_signals() noexcept {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, nullptr);
}

void name_machine(std::string_view hostname) noexcept {
  if (!hostname.empty() && sethostname(hostname.data(), hostname.size()) != 0) tell("skipped", "the host name");
  raise_loopback();
}

void let_others_go_first() noexcept {
  const sched_param priority{};
  syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &priority);  // musl's function only says ENOSYS
}

void set_limits() noexcept {
  umask(022);
  const rlimit limit{open_files, open_files};
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace minivm::guest

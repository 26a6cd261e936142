#include "guest-init/hand_over.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "freestanding/fd.h"
#include "guest-init/clock.h"

namespace minivm::guest {
namespace {

constexpr std::uint32_t shutdown_ms = 10'000;

/// PID 1's side: only returns when the exec failed, with errno.
int become_init(char** argv, const char* path) noexcept {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  char* const own_name = argv[0];
  argv[0] = const_cast<char*>(path);
  execve(path, argv, environ);
  const int error = errno;
  argv[0] = own_name;
  return error;
}

}  // namespace

Outcome hand_over(char** argv, const char* path) noexcept {
  int pipe[2];
  if (pipe2(pipe, O_CLOEXEC) != 0) return Failure{"fork the exec server for", path, errno};
  Fd verdict(pipe[0]);
  Fd executes(pipe[1]);
  const pid_t pid = fork();
  if (pid < 0) return Failure{"fork the exec server for", path, errno};
  if (pid > 0) {
    const int error = become_init(argv, path);
    const char failed = 1;
    [[maybe_unused]] const ssize_t ignored = write(executes.get(), &failed, sizeof(failed));
    return Failure{"execute init", path, error};
  }
  setsid();
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  argv[0][0] = '@';  // systemd spares processes of this mark in its final killing spree
  executes.reset();
  char failed = 0;
  if (read(verdict.get(), &failed, sizeof(failed)) != 0) _exit(1);  // end of file: the init runs
  return {};
}

void enter_root_of_init(int proc) noexcept {
  const Fd root(openat(proc, "1/root", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (root && fchdir(root.get()) == 0 && chroot(".") == 0) return;
  // The init is just ending or has none: the programs get the root that the last one had.
}

void ask_init_to_power_off() noexcept {
  if (fork() == 0) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    for (const char* path : {"/sbin/poweroff", "/usr/sbin/poweroff", "/bin/poweroff"}) {
      execl(path, "poweroff", static_cast<char*>(nullptr));
    }
    _exit(127);
  }
  for (Patience patience(shutdown_ms); patience.wait();) {
  }
}

}  // namespace minivm::guest

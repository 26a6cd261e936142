#include "guest-init/spawn.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "freestanding/text.h"

namespace minivm::guest {
namespace {

using protocol::ExecStep;

/// The child borrows the parent's memory until it executes or exits, so it can simply leave its verdict there. Not in
/// a local variable: the compiler does not see the two processes in one function and would keep the parent's value.
[[noreturn]] void refuse(ExecPlan& plan, ExecStep step, int error) noexcept {
  plan.verdict = {step, static_cast<std::uint32_t>(error)};
  _exit(127);
}

/// Root without further groups is what this process is already. The raw calls, because those of the C library want to
/// reach every thread of the parent whose memory this is.
void become(ExecPlan& plan) noexcept {
  const Identity& identity = plan.identity;
  if (identity.uid == 0 && identity.gid == 0 && identity.group_count == 0) return;
  if (syscall(SYS_setgroups, identity.group_count, identity.groups.data()) != 0 ||
      syscall(SYS_setgid, identity.gid) != 0 || syscall(SYS_setuid, identity.uid) != 0) {
    refuse(plan, ExecStep::identity, errno);
  }
}

/// While still root, which may raise them. The raw call, for the same reason as in `become`.
void set_limits(ExecPlan& plan) noexcept {
  for (const protocol::ResourceLimit& limit : plan.limits.list()) {
    const rlimit64 values{limit.soft, limit.hard};
    if (syscall(SYS_prlimit64, 0, limit.resource, &values, nullptr) != 0) refuse(plan, ExecStep::limits, errno);
  }
}

void enter_directory(ExecPlan& plan) noexcept {
  if (plan.directory != nullptr) {
    if (chdir(plan.directory) != 0) refuse(plan, ExecStep::directory, errno);
  } else if (chdir(plan.identity.home.c_str()) != 0 && chdir("/") != 0) {
    refuse(plan, ExecStep::directory, errno);
  }
}

/// Tries to execute `name` in each directory of PATH, as execvp(3) does, but leaves ENOEXEC an error.
int execute_from_path(ExecPlan& plan, std::string_view name) noexcept {
  int error = ENOENT;
  std::string_view rest(plan.search_path);
  for (bool last = false; !last;) {
    last = rest.find(':') == rest.npos;
    const std::string_view directory = take_field(rest, ':');
    if (directory.size() + name.size() + 2 > sizeof(plan.program)) continue;
    char* end = plan.program;
    if (!directory.empty()) {  // an empty entry is the current directory
      std::memcpy(end, directory.data(), directory.size());
      end += directory.size();
      *end++ = '/';
    }
    std::memcpy(end, name.data(), name.size());
    end[name.size()] = '\0';
    execve(plan.program, plan.argv, plan.environment);
    if (errno == EACCES) {
      error = EACCES;  // a later directory may still have one that may be executed
    } else if (errno != ENOENT && errno != ENOTDIR) {
      return errno;
    }
  }
  return error;
}

int execute(ExecPlan& plan, int program) noexcept {
  if (program >= 0) {
    syscall(SYS_execveat, program, "", plan.argv, plan.environment, AT_EMPTY_PATH);
    return errno;
  }
  const std::string_view name(plan.argv[0]);
  if (name.empty()) return ENOENT;
  if (name.find('/') == name.npos) return execute_from_path(plan, name);
  execve(plan.argv[0], plan.argv, plan.environment);
  return errno;
}

/// Undoes let_others_go_first.
void schedule_as_usual() noexcept {
  const sched_param priority{};
  syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &priority);
}

[[noreturn]] void run_child(ExecPlan& plan, const SpawnFiles& files) noexcept {
  setsid();
  for (int fd = 0; fd < 3; ++fd) {
    if (dup2(files.standard[static_cast<std::size_t>(fd)], fd) < 0) refuse(plan, ExecStep::streams, errno);
  }
  if (files.controlling_terminal && ioctl(0, TIOCSCTTY, 0) != 0) refuse(plan, ExecStep::terminal, errno);
  // Everything here is opened with O_CLOEXEC; this is for what PID 1 inherited. Kernels before 5.11 lack it.
  syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  schedule_as_usual();
  set_limits(plan);
  ::umask(plan.umask & 0777);
  become(plan);
  enter_directory(plan);
  refuse(plan, ExecStep::execute, execute(plan, files.program));
}

}  // namespace

SpawnResult spawn(ExecPlan& plan, const SpawnFiles& files) noexcept {
  plan.verdict = {};
  // vfork: no page table is copied, and the failure of the exec is known when it returns.
  const pid_t pid = vfork();             // NOLINT
  if (pid == 0) run_child(plan, files);  // NOLINT
  if (pid < 0) return {-1, {ExecStep::fork, static_cast<std::uint32_t>(errno)}};
  if (plan.verdict.error == 0) return {pid, {}};
  waitpid(pid, nullptr, 0);
  return {-1, plan.verdict};
}

}  // namespace minivm::guest

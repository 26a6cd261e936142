#include "cli/detach.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/log.h"
#include "vmm/exec_session.h"

namespace minivm {
namespace {

/// Reads nothing from the caller's terminal from now on.
void leave_stdin() {
  const UniqueFd null = open_file("/dev/null", O_RDWR);
  if (::dup2(null.get(), STDIN_FILENO) < 0) throw_errno("stdin");
}

int wait_for(pid_t child, UniqueFd pipe) {
  char word = 0;
  ssize_t size = ::read(pipe.get(), &word, 1);
  while (size < 0 && errno == EINTR) size = ::read(pipe.get(), &word, 1);
  if (size == 1) return 0;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  log::warning("the machine's process was ended by signal {}", WTERMSIG(status));
  return ExecOutcome::launcher_failed;
}

}  // namespace

void WaitingParent::watch(EventLoop& loop, std::function<void()> on_gone) {
  // Without events asked for, only the end of the reader comes, as EPOLLERR; once is enough.
  loop.watch(pipe_.get(), EPOLLONESHOT, [on_gone = std::move(on_gone)](std::uint32_t) { on_gone(); });
}

void WaitingParent::release(EventLoop& loop, const std::string& name, int log) {
  fmt::print("{}\n", name);
  std::fflush(stdout);
  const UniqueFd null = open_file("/dev/null", O_RDWR);
  ::dup2(null.get(), STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  [[maybe_unused]] const int entered = ::chdir("/");  // keeps no file system busy
  loop.unwatch(pipe_.get());
  const char word = 1;
  [[maybe_unused]] const ssize_t written = ::write(pipe_.get(), &word, 1);
  pipe_.reset();
}

int detach(const std::function<int(WaitingParent&)>& work) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw_errno("pipe");
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) throw_errno("fork");
  if (child > 0) {
    writer.reset();
    return wait_for(child, std::move(reader));
  }
  reader.reset();
  ::setsid();
  leave_stdin();
  WaitingParent parent(std::move(writer));
  return work(parent);
}

}  // namespace minivm

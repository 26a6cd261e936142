#include "cli/signals.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>

namespace minivm {
namespace {

UniqueFd open_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH}) {
    ::sigaddset(&signals, number);
  }
  if (::sigprocmask(SIG_BLOCK, &signals, nullptr) != 0) throw_errno("sigprocmask");
  UniqueFd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) throw_errno("signalfd");
  return fd;
}

}  // namespace

SignalWatch::SignalWatch(EventLoop& loop, std::function<void(int number)> on_signal) : fd_(open_signals()) {
  loop.watch(fd_.get(), EPOLLIN, [fd = fd_.get(), on_signal = std::move(on_signal)](std::uint32_t) {
    signalfd_siginfo info{};
    while (::read(fd, &info, sizeof info) == sizeof info) on_signal(static_cast<int>(info.ssi_signo));
  });
}

}  // namespace minivm

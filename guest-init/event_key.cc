#include "guest-init/event_key.h"

#include <sys/epoll.h>

#include <cerrno>

namespace minivm::guest {

int watch(int epoll, int fd, EventKey key, bool again) noexcept {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.u64 = key.pack();
  return epoll_ctl(epoll, again ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : errno;
}

}  // namespace minivm::guest

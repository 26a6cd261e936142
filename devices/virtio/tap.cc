#include "devices/virtio/tap.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <utility>

#include "devices/virtio/spec.h"

namespace minivm::virtio {
namespace {

// linux/if_tun.h, TUN_F_USO4 and TUN_F_USO6, since Linux 6.2; they come together only.
constexpr unsigned tun_uso = 0x20 | 0x40;
constexpr unsigned tun_tso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

constexpr std::uint64_t host_tso = net::feature_csum | net::feature_host_tso4 | net::feature_host_tso6 |
                                   net::feature_host_ecn | net::feature_guest_csum | net::feature_guest_tso4 |
                                   net::feature_guest_tso6 | net::feature_guest_ecn;
constexpr std::uint64_t host_uso = net::feature_host_uso | net::feature_guest_uso4 | net::feature_guest_uso6;

ifreq request_for(const std::string& name) {
  ifreq request{};
  if (name.empty() || name.size() >= IFNAMSIZ) {
    throw std::runtime_error(fmt::format("tap {}: a name has 1 to {} characters", name, IFNAMSIZ - 1));
  }
  std::ranges::copy(name, request.ifr_name);
  return request;
}

UniqueFd attach_queue(const std::string& name, bool several) {
  UniqueFd file = open_file("/dev/net/tun", O_RDWR | O_NONBLOCK);
  ifreq request = request_for(name);
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (several ? IFF_MULTI_QUEUE : 0));
  if (::ioctl(file.get(), TUNSETIFF, &request) != 0) throw_errno(fmt::format("tap {}: attach", name));
  return file;
}

int control_socket() noexcept { return ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0); }

std::uint16_t read_mtu(const std::string& name) {
  const UniqueFd socket(control_socket());
  ifreq request = request_for(name);
  if (::ioctl(socket.get(), SIOCGIFMTU, &request) != 0) return 1500;
  return static_cast<std::uint16_t>(std::clamp(request.ifr_mtu, 68, 65535));
}

/// A frame for an interface that is down is lost.
void raise_interface(const std::string& name) {
  const UniqueFd socket(control_socket());
  ifreq request = request_for(name);
  if (::ioctl(socket.get(), SIOCGIFFLAGS, &request) != 0 || (request.ifr_flags & IFF_UP) != 0) return;
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) {
    log::warning("tap {}: is down: {}", name, std::strerror(errno));
  }
}

void set_header_size(const UniqueFd& file, const std::string& name) {
  const int size = sizeof(net::Header);
  if (::ioctl(file.get(), TUNSETVNETHDRSZ, &size) != 0) throw_errno(fmt::format("tap {}: set the header's size", name));
}

bool accepts(const UniqueFd& file, unsigned offloads) noexcept {
  return ::ioctl(file.get(), TUNSETOFFLOAD, static_cast<unsigned long>(offloads)) == 0;
}

/// What the kernel takes, tried from the most to the least.
std::uint64_t probe_offloads(const UniqueFd& file) noexcept {
  std::uint64_t found = 0;
  if (accepts(file, tun_tso)) found = host_tso;
  if (accepts(file, tun_tso | tun_uso)) found |= host_uso;
  accepts(file, 0);
  return found;
}

void finish(TapQueues& tap) {
  for (const UniqueFd& file : tap.files) set_header_size(file, tap.name);
  tap.offloads = probe_offloads(tap.files.front());
  tap.mtu = read_mtu(tap.name);
  raise_interface(tap.name);
}

}  // namespace

TapQueues open_tap(const std::string& name, std::uint16_t queues) {
  TapQueues tap{.name = name};
  for (std::uint16_t i = 0; i < queues; ++i) tap.files.push_back(attach_queue(name, queues > 1));
  finish(tap);
  return tap;
}

TapQueues adopt_tap(std::span<const int> fds) {
  TapQueues tap;
  for (const int fd : fds) {
    const UniqueFd& file = tap.files.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    const int flags = ::fcntl(fd, F_GETFL);
    if (!file || flags < 0) throw_errno(fmt::format("tap descriptor {}", fd));
    ifreq request{};
    if (::ioctl(fd, TUNGETIFF, &request) != 0 || (request.ifr_flags & IFF_TAP) == 0) {
      throw std::runtime_error(fmt::format("tap descriptor {}: is not attached to a TAP interface", fd));
    }
    tap.name = request.ifr_name;
    if ((request.ifr_flags & IFF_VNET_HDR) == 0 || (request.ifr_flags & IFF_NO_PI) == 0) {
      throw std::runtime_error(fmt::format("tap {}: was opened without IFF_VNET_HDR or IFF_NO_PI", tap.name));
    }
    ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  }
  finish(tap);
  return tap;
}

Tap::Tap(TapQueues queues, EventLoop& loop)
    : name_(std::move(queues.name)), loop_(loop), offloads_(queues.offloads), mtu_(queues.mtu) {
  for (UniqueFd& file : queues.files) queues_.push_back({.file = std::move(file)});
}

void Tap::start(Events events) noexcept {
  events_ = std::move(events);
  use_pairs(1);
}

void Tap::use_pairs(std::uint16_t pairs) noexcept {
  for (std::uint16_t pair = 0; pair < queue_pairs(); ++pair) {
    Queue& queue = queues_[pair];
    // One queue stays attached: it has nobody to leave the frames to.
    if (queues_.size() > 1 && pair > 0) attach(queue, pair < pairs);
    if (pair < pairs) {
      watch(pair);
    } else {
      unwatch(queue);
    }
  }
}

void Tap::attach(Queue& queue, bool attached) noexcept {
  if (queue.attached == attached) return;
  ifreq request{};
  request.ifr_flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
  // The kernel spreads frames over a queue that it did not detach; those are lost, and the guest's protocols cope.
  if (::ioctl(queue.file.get(), TUNSETQUEUE, &request) != 0) {
    faults_.warning("tap {}: {} a queue: {}", name_, attached ? "attach" : "detach", std::strerror(errno));
  }
  queue.attached = attached;
}

void Tap::watch(std::uint16_t pair) noexcept {
  Queue& queue = queues_[pair];
  if (queue.watched) return;
  queue.events = EPOLLIN;
  try {
    queue.watched =
        loop_.watch(queue.file.get(), queue.events, [this, pair](std::uint32_t ready) { on_ready(pair, ready); });
  } catch (const std::exception& error) {
    faults_.warning("tap {}: {}", name_, error.what());
  }
}

void Tap::unwatch(Queue& queue) noexcept {
  if (std::exchange(queue.watched, false)) loop_.unwatch(queue.file.get());
}

void Tap::set_event(Queue& queue, std::uint32_t event, bool wanted) noexcept {
  const std::uint32_t events = wanted ? queue.events | event : queue.events & ~event;
  if (events == queue.events || !queue.watched) return;
  queue.events = events;
  loop_.rearm(queue.file.get(), events);
}

void Tap::on_ready(std::uint16_t pair, std::uint32_t ready) noexcept {
  // An interface that was removed: epoll would say so for ever.
  if ((ready & (EPOLLERR | EPOLLHUP)) != 0 && (ready & (EPOLLIN | EPOLLOUT)) == 0) {
    faults_.warning("tap {}: the interface is gone", name_);
    return unwatch(queues_[pair]);
  }
  if ((ready & EPOLLOUT) != 0) {
    set_event(queues_[pair], EPOLLOUT, false);
    events_.room(pair);
  }
  if ((ready & EPOLLIN) != 0) events_.frames(pair);
}

void Tap::set_guest_offloads(std::uint64_t features) noexcept {
  unsigned flags = 0;
  if ((features & net::feature_guest_csum) != 0) {
    flags = TUN_F_CSUM;
    if ((features & net::feature_guest_tso4) != 0) flags |= TUN_F_TSO4;
    if ((features & net::feature_guest_tso6) != 0) flags |= TUN_F_TSO6;
    if ((features & net::feature_guest_ecn) != 0) flags |= TUN_F_TSO_ECN;
    constexpr std::uint64_t both = net::feature_guest_uso4 | net::feature_guest_uso6;
    if ((features & both) == both) flags |= tun_uso;
  }
  // What was probed is taken; where it is not, the kernel goes on as before and finishes what it hands out.
  if (!accepts(queues_.front().file, flags))
    log::debug("tap {}: offloads {:#x}: {}", name_, flags, std::strerror(errno));
}

void Tap::want_frames(std::uint16_t pair, bool wanted) noexcept { set_event(queues_[pair], EPOLLIN, wanted); }

std::size_t Tap::receive(std::uint16_t pair, std::span<const iovec> space) noexcept {
  Queue& queue = queues_[pair];
  if (!queue.watched) return 0;
  for (;;) {
    const ssize_t size = ::readv(queue.file.get(), space.data(), static_cast<int>(space.size()));
    if (size >= 0) return static_cast<std::size_t>(size);
    if (errno == EINTR) continue;
    if (errno != EAGAIN) {
      faults_.warning("tap {}: read: {}", name_, std::strerror(errno));
      unwatch(queue);
    }
    return 0;
  }
}

bool Tap::send(std::uint16_t pair, std::span<const iovec> frame) noexcept {
  Queue& queue = queues_[pair];
  while (::writev(queue.file.get(), frame.data(), static_cast<int>(frame.size())) < 0) {
    if (errno == EINTR) continue;
    if (errno == EAGAIN && queue.watched) {
      set_event(queue, EPOLLOUT, true);
      return false;
    }
    faults_.warning("tap {}: write: {}", name_, std::strerror(errno));
    return true;
  }
  return true;
}

}  // namespace minivm::virtio

#include "devices/virtio/user_network.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "devices/virtio/iovecs.h"

namespace minivm::virtio {
namespace {

using std::chrono::milliseconds;

/// So many bytes may wait for the guest before no more are read from sockets, and before frames are dropped.
constexpr std::size_t high_water = std::size_t{512} << 10;
constexpr std::size_t capacity = std::size_t{4} << 20;

constexpr int listen_backlog = 128;

using FrameSize = std::uint32_t;

/// libslirp's names and epoll's for the same events.
constexpr std::array<std::pair<int, std::uint32_t>, 5> poll_events{{{SLIRP_POLL_IN, EPOLLIN},
                                                                    {SLIRP_POLL_OUT, EPOLLOUT},
                                                                    {SLIRP_POLL_PRI, EPOLLPRI},
                                                                    {SLIRP_POLL_ERR, EPOLLERR},
                                                                    {SLIRP_POLL_HUP, EPOLLHUP}}};

in_addr ipv4(const char* text) {
  in_addr address{};
  ::inet_pton(AF_INET, text, &address);
  return address;
}

in6_addr ipv6(const char* text) {
  in6_addr address{};
  ::inet_pton(AF_INET6, text, &address);
  return address;
}

std::string without_prefix(std::string_view address) { return std::string(address.substr(0, address.find('/'))); }

std::int64_t now_ns() noexcept { return EventLoop::Clock::now().time_since_epoch().count(); }

UserNetwork& network_of(void* opaque) noexcept { return *static_cast<UserNetwork*>(opaque); }

}  // namespace

/// A timer of libslirp's.
struct UserNetwork::Timer {
  UserNetwork* network = nullptr;
  SlirpTimerCb callback = nullptr;
  void* argument = nullptr;
  EventLoop::TimerId id = 0;

  void cancel() noexcept {
    if (id != 0) network->loop_.cancel(std::exchange(id, 0));
  }
  void set(std::int64_t expire_ms) {
    cancel();
    const milliseconds delay(std::max<std::int64_t>(0, expire_ms - now_ns() / 1'000'000));
    id = network->loop_.after(delay, [this] {
      id = 0;
      callback(argument);
      network->turn_soon();
    });
  }
};

UserNetwork::UserNetwork(const Settings& settings, EventLoop& loop)
    : library_(SlirpLibrary::get()), loop_(loop), sockets_epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!sockets_epoll_) throw_errno("user network: epoll_create1");
  create(settings);
  try {
    for (const Forward& forward : settings.forwards) add(forward);
    raise_backlogs();
  } catch (...) {
    library_.destroy(slirp_);
    throw;
  }
}

UserNetwork::~UserNetwork() {
  stop();
  library_.destroy(slirp_);
}

void UserNetwork::create(const Settings& settings) {
  SlirpConfig config{};
  config.version = 1;
  config.in_enabled = true;
  config.vnetwork = ipv4("10.0.2.0");
  config.vnetmask = ipv4("255.255.255.0");
  config.vhost = ipv4(host_address);
  config.vdhcp_start = ipv4(without_prefix(guest_address).c_str());
  config.vnameserver = ipv4(name_server);
  config.in6_enabled = true;
  config.vprefix_addr6 = ipv6("fec0::");
  config.vprefix_len = 64;
  config.vhost6 = ipv6(host_address6);
  config.vnameserver6 = ipv6("fec0::3");
  config.vhostname = settings.hostname.c_str();
  config.if_mtu = largest_mtu;
  config.if_mru = largest_mtu;
  config.disable_host_loopback = !settings.host_loopback;
  slirp_ = library_.create(&config, &callbacks(), this);
  if (slirp_ == nullptr) throw std::runtime_error("user network: libslirp refused to start");
}

void UserNetwork::add(const Forward& forward) {
  sockaddr_in host4{};
  sockaddr_in6 host6{};
  sockaddr_in guest4{};
  sockaddr_in6 guest6{};
  const bool is_ipv6 = forward.host_address.contains(':');
  host4.sin_family = guest4.sin_family = AF_INET;
  host6.sin6_family = guest6.sin6_family = AF_INET6;
  host4.sin_port = host6.sin6_port = htons(forward.host_port);
  guest4.sin_port = guest6.sin6_port = htons(forward.guest_port);
  guest4.sin_addr = ipv4(without_prefix(guest_address).c_str());
  guest6.sin6_addr = ipv6(without_prefix(guest_address6).c_str());
  void* const host_bytes = is_ipv6 ? static_cast<void*>(&host6.sin6_addr) : &host4.sin_addr;
  const std::string name =
      fmt::format("publish {}:{}{}", forward.host_address, forward.host_port, forward.udp ? "/udp" : "");
  if (::inet_pton(is_ipv6 ? AF_INET6 : AF_INET, forward.host_address.c_str(), host_bytes) != 1) {
    throw std::runtime_error(name + ": is not an address");
  }
  const int flags = (forward.udp ? SLIRP_HOSTFWD_UDP : 0) | (is_ipv6 ? SLIRP_HOSTFWD_V6ONLY : 0);
  const int result = is_ipv6 ? library_.forward(slirp_, reinterpret_cast<const sockaddr*>(&host6), sizeof host6,
                                                reinterpret_cast<const sockaddr*>(&guest6), sizeof guest6, flags)
                             : library_.forward(slirp_, reinterpret_cast<const sockaddr*>(&host4), sizeof host4,
                                                reinterpret_cast<const sockaddr*>(&guest4), sizeof guest4, flags);
  if (result < 0) throw_errno(name);
}

/// libslirp listens for one connection at a time; a burst of them would wait for seconds. Sockets are all listening
/// yet, or of UDP, which listen(2) refuses.
void UserNetwork::raise_backlogs() {
  std::uint32_t timeout = 0;
  library_.fill_polls(
      slirp_, &timeout,
      [](int fd, int, void*) {
        ::listen(fd, listen_backlog);
        return 0;
      },
      this);
}

const SlirpCb& UserNetwork::callbacks() noexcept {
  static const SlirpCb callbacks{
      .send_packet = [](const void* frame, std::size_t size, void* opaque) -> ssize_t {
        network_of(opaque).keep(std::span(static_cast<const std::byte*>(frame), size));
        return static_cast<ssize_t>(size);
      },
      .guest_error = [](const char* message,
                        void* opaque) { network_of(opaque).faults_.warning("user network: {}", message); },
      .clock_get_ns = [](void*) { return now_ns(); },
      .timer_new = [](SlirpTimerCb callback, void* argument, void* opaque) -> void* {
        // libslirp is C and has no way out of this: without memory the process ends.
        return new Timer{&network_of(opaque), callback, argument};  // NOLINT(bugprone-unhandled-exception-at-new)
      },
      .timer_free =
          [](void* timer, void*) {
            static_cast<Timer*>(timer)->cancel();
            delete static_cast<Timer*>(timer);
          },
      .timer_mod = [](void* timer, std::int64_t expire_ms, void*) { static_cast<Timer*>(timer)->set(expire_ms); },
      // What is known of a descriptor ends with it: its number may come back as another socket.
      .register_poll_fd = [](int fd, void* opaque) { network_of(opaque).sockets_.erase(fd); },
      .unregister_poll_fd = [](int fd, void* opaque) { network_of(opaque).sockets_.erase(fd); },
      .notify = [](void* opaque) { network_of(opaque).turn_soon(); },
  };
  return callbacks;
}

void UserNetwork::start(Events events) noexcept {
  events_ = std::move(events);
  started_ = true;
  wanted_ = true;
  stalled_ = false;
  loop_.watch(sockets_epoll_.get(), EPOLLIN, [this](std::uint32_t) { turn(); });
  turn_soon();
}

void UserNetwork::stop() noexcept {
  if (!std::exchange(started_, false)) return;
  loop_.unwatch(sockets_epoll_.get());
  if (timer_ != 0) loop_.cancel(std::exchange(timer_, 0));
  waiting_.clear();
  waiting_begin_ = 0;
}

void UserNetwork::set_guest_offloads(std::uint64_t features) noexcept {
  receive_flags_ = (features & net::feature_guest_csum) != 0 ? net::header_data_valid : std::uint8_t{0};
}

// After the batch that is under way.
void UserNetwork::turn_soon() noexcept {
  if (!started_ || std::exchange(turn_due_, true)) return;
  loop_.post([this] {
    turn_due_ = false;
    turn();
  });
}

// Lets libslirp move what can move, and asks what it waits for next.
void UserNetwork::turn() noexcept {
  if (!started_) return;
  if (congested()) {
    if (!std::exchange(stalled_, true)) loop_.rearm(sockets_epoll_.get(), 0);
    return hand_on();
  }
  collect_ready();
  library_.handle_polls(
      slirp_, 0, [](int index, void* opaque) { return network_of(opaque).ready_at(index); }, this);
  look();
  hand_on();
}

void UserNetwork::collect_ready() noexcept {
  std::array<epoll_event, 256> ready;
  const int count = ::epoll_wait(sockets_epoll_.get(), ready.data(), static_cast<int>(ready.size()), 0);
  for (const epoll_event& event : std::span(ready).first(static_cast<std::size_t>(std::max(count, 0)))) {
    const auto found = sockets_.find(event.data.fd);
    if (found != sockets_.end()) found->second.ready = event.events;
  }
}

int UserNetwork::ready_at(int index) const noexcept {
  if (index < 0 || static_cast<std::size_t>(index) >= polled_.size()) return 0;
  const auto found = sockets_.find(polled_[static_cast<std::size_t>(index)]);
  if (found == sockets_.end()) return 0;
  int events = 0;
  for (const auto& [ours, epolls] : poll_events) {
    if ((found->second.ready & epolls) != 0) events |= ours;
  }
  return events;
}

void UserNetwork::look() noexcept {
  ++round_;
  polled_.clear();
  std::uint32_t timeout = UINT32_MAX;
  library_.fill_polls(
      slirp_, &timeout, [](int fd, int events, void* opaque) { return network_of(opaque).poll_for(fd, events); }, this);
  std::erase_if(sockets_, [this](const auto& entry) {
    if (entry.second.round == round_) return false;
    ::epoll_ctl(sockets_epoll_.get(), EPOLL_CTL_DEL, entry.first, nullptr);
    return true;
  });
  if (timer_ != 0) loop_.cancel(std::exchange(timer_, 0));
  if (timeout == UINT32_MAX) return;
  timer_ = loop_.after(milliseconds(timeout), [this] {
    timer_ = 0;
    turn();
  });
}

int UserNetwork::poll_for(int fd, int events) noexcept {
  std::uint32_t wanted = 0;
  for (const auto& [ours, epolls] : poll_events) {
    if ((events & ours) != 0) wanted |= epolls;
  }
  const auto [entry, is_new] = sockets_.try_emplace(fd);
  Socket& socket = entry->second;
  if (is_new || socket.events != wanted) {
    epoll_event event{.events = wanted, .data = {.fd = fd}};
    const int known = ::epoll_ctl(sockets_epoll_.get(), is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event);
    if (known != 0) ::epoll_ctl(sockets_epoll_.get(), is_new ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
  }
  socket = {.events = wanted, .ready = 0, .round = round_};
  polled_.push_back(fd);
  return static_cast<int>(polled_.size()) - 1;
}

// One call for what has come; what the device leaves is for the next turn.
void UserNetwork::hand_on() noexcept {
  if (!wanted_ || waiting_.empty()) return;
  events_.frames(0);
  if (wanted_ && !waiting_.empty()) turn_soon();
}

bool UserNetwork::congested() const noexcept { return waiting_.size() - waiting_begin_ > high_water; }

// A frame of libslirp's for the guest.
void UserNetwork::keep(std::span<const std::byte> frame) noexcept {
  const net::Header header{.flags = receive_flags_};
  const auto size = static_cast<FrameSize>(sizeof header + frame.size());
  if (!started_ || waiting_.size() + sizeof size + size > capacity) return;
  const auto append = [this](std::span<const std::byte> bytes) {
    waiting_.insert(waiting_.end(), bytes.begin(), bytes.end());
  };
  append(std::as_bytes(std::span(&size, 1)));
  append(std::as_bytes(std::span(&header, 1)));
  append(frame);
  turn_soon();
}

void UserNetwork::want_frames(std::uint16_t, bool wanted) noexcept {
  if (!std::exchange(wanted_, wanted) && wanted && !waiting_.empty()) turn_soon();
}

std::size_t UserNetwork::receive(std::uint16_t, std::span<const iovec> space) noexcept {
  if (waiting_.empty()) return 0;
  FrameSize size = 0;
  std::memcpy(&size, waiting_.data() + waiting_begin_, sizeof size);
  store_front(space, std::span(waiting_).subspan(waiting_begin_ + sizeof size, size));
  waiting_begin_ += sizeof size + size;
  if (waiting_begin_ == waiting_.size()) {
    waiting_.clear();
    waiting_begin_ = 0;
  } else if (waiting_begin_ > capacity / 2) {
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(std::exchange(waiting_begin_, 0)));
  }
  if (stalled_ && !congested()) {
    stalled_ = false;
    loop_.rearm(sockets_epoll_.get(), EPOLLIN);
    turn_soon();
  }
  return size;
}

bool UserNetwork::send(std::uint16_t, std::span<const iovec> frame) noexcept {
  // Copied first, and not only because libslirp wants one piece: it looks at each field more than once.
  frame_.resize(net::max_frame_size);
  const std::size_t size = copy_front(frame.subspan(1), frame_);
  library_.input(slirp_, reinterpret_cast<const std::uint8_t*>(frame_.data()), static_cast<int>(size));
  turn_soon();
  return true;
}

}  // namespace minivm::virtio

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/log.h"
#include "devices/virtio/net_backend.h"
#include "devices/virtio/slirp_library.h"
#include "devices/virtio/spec.h"

namespace minivm::virtio {

/// A network of the guest alone, inside this process and without any right of root: libslirp ends the guest's TCP and
/// UDP and goes on with sockets of the host. It has a router that is the host, a DHCP server and a name server that
/// asks the host's.
class UserNetwork final : public NetBackend {
 public:
  static constexpr const char* guest_address = "10.0.2.15/24";
  static constexpr const char* guest_address6 = "fec0::15/64";
  static constexpr const char* host_address = "10.0.2.2";
  static constexpr const char* host_address6 = "fec0::2";
  static constexpr const char* name_server = "10.0.2.3";
  /// The guest's segments are as large as IP allows: libslirp's cost is by the packet.
  static constexpr std::uint16_t largest_mtu = 65520;

  /// A port of the host that leads into the guest.
  struct Forward {
    bool udp = false;
    std::string host_address;  // IPv4 or IPv6; leads to the guest's address of that kind
    std::uint16_t host_port = 0;
    std::uint16_t guest_port = 0;
  };
  struct Settings {
    std::string hostname;
    bool host_loopback = true;  // services of the host's 127.0.0.1 can be reached at host_address
    std::vector<Forward> forwards;
  };

  /// Binds the forwarded ports. `loop` is the device's, and outlives this. Throws when libslirp is not there, or an
  /// error that names the port.
  UserNetwork(const Settings& settings, EventLoop& loop);
  ~UserNetwork() override;

  /// It makes the checksums of what it sends, so the guest need not look.
  std::uint64_t offloads() const noexcept override { return net::feature_guest_csum; }
  std::uint16_t queue_pairs() const noexcept override { return 1; }
  std::uint16_t mtu() const noexcept override { return largest_mtu; }

  void start(Events events) noexcept override;
  void stop() noexcept override;
  void set_guest_offloads(std::uint64_t features) noexcept override;
  void use_pairs(std::uint16_t) noexcept override {}
  void want_frames(std::uint16_t pair, bool wanted) noexcept override;
  std::size_t receive(std::uint16_t pair, std::span<const iovec> space) noexcept override;
  bool send(std::uint16_t pair, std::span<const iovec> frame) noexcept override;

 private:
  struct Timer;
  struct Socket {
    std::uint32_t events = 0;  // what epoll looks for
    std::uint32_t ready = 0;   // what it found
    std::uint64_t round = 0;   // of the last `look` in which libslirp asked for it
  };

  void create(const Settings& settings);
  void add(const Forward& forward);
  void raise_backlogs();
  static const SlirpCb& callbacks() noexcept;

  void turn_soon() noexcept;
  void turn() noexcept;
  void collect_ready() noexcept;
  void look() noexcept;
  int poll_for(int fd, int events) noexcept;
  int ready_at(int index) const noexcept;
  void hand_on() noexcept;

  void keep(std::span<const std::byte> frame) noexcept;
  bool congested() const noexcept;

  const SlirpLibrary& library_;
  EventLoop& loop_;
  UniqueFd sockets_epoll_;
  std::unordered_map<int, Socket> sockets_;
  std::vector<int> polled_;  // in the order in which libslirp asked
  std::uint64_t round_ = 0;
  EventLoop::TimerId timer_ = 0;
  bool turn_due_ = false;

  Events events_;
  bool started_ = false;
  bool wanted_ = false;
  bool stalled_ = false;  // the guest must take frames before more are made
  std::uint8_t receive_flags_ = 0;
  std::vector<std::byte> waiting_;  // frames for the guest, with header, each behind its size
  std::size_t waiting_begin_ = 0;
  std::vector<std::byte> frame_;  // of the guest, in one piece
  log::FaultLimit faults_;
  Slirp* slirp_ = nullptr;  // last: it uses all of the above
};

}  // namespace minivm::virtio

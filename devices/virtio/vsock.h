#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/event_loop.h"
#include "base/log.h"
#include "devices/virtio/device.h"
#include "devices/virtio/spec.h"
#include "devices/virtio/vsock_endpoint.h"
#include "devices/virtio/vsock_link.h"
#include "devices/virtio/vsock_rx.h"

namespace minivm::virtio {

/// virtio-vsock (VirtIO 1.2, 5.10): stream connections between the guest and endpoints in this process.
/// Event-loop thread, except for what VirtioDevice says otherwise. The loop must not run any more when the device is
/// destroyed; endpoints that are still connected are then let go without a word.
class Vsock final : public VirtioDevice {
 public:
  static constexpr std::uint64_t host_cid = 2;
  static constexpr std::size_t max_connections = 4096;
  static constexpr std::chrono::milliseconds connect_timeout{5000};

  /// Makes the endpoint for a connection that the guest asks for; nullptr refuses it with RST.
  using Accept = std::move_only_function<std::shared_ptr<VsockEndpoint>(std::uint32_t guest_port)>;
  /// The same for any host port.
  using AcceptOther = std::move_only_function<std::shared_ptr<VsockEndpoint>(std::uint32_t host_port)>;

  Vsock(std::uint64_t guest_cid, EventLoop& loop);
  ~Vsock() override;

  /// Serves guest connections to `host_port`; replaces an earlier listener. May be called before the guest runs.
  void listen(std::uint32_t host_port, Accept accept);
  /// Serves connections to all host ports that have no listener of their own; an empty one: nobody does.
  void listen_to_others(AcceptOther accept);
  /// Dials `guest_port`: `attached` follows, or `closed(false)` when the guest refuses or does not answer in time.
  /// Returns the host's port of the connection; 0 when there are too many connections, and then `closed` follows.
  std::uint32_t connect(std::uint32_t guest_port, std::shared_ptr<VsockEndpoint> endpoint,
                        std::chrono::milliseconds timeout = connect_timeout);
  /// Ends the connection between the two ports, if there still is one: RST to the guest, `closed(false)` to the
  /// endpoint.
  void disconnect(std::uint32_t host_port, std::uint32_t guest_port) noexcept;

  std::uint32_t type() const noexcept override;
  std::uint64_t features() const noexcept override;
  std::span<const std::uint16_t> queue_sizes() const noexcept override;
  void read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept override;
  void activate(Activation activation) noexcept override;
  void on_notify(std::uint16_t queue) noexcept override;
  void reset() noexcept override;

 private:
  friend class VsockLink;
  using Header = vsock::PacketHeader;

  // All work is done here: a bounded part at a time, which posts itself when there is more.
  void work() noexcept;
  void schedule() noexcept;
  void interrupt_guest() noexcept;
  void attend_later(VsockLink& link) noexcept;

  // Guest to host.
  bool serve_tx() noexcept;
  void on_packet(DescriptorChain& chain) noexcept;
  void on_link_packet(VsockLink& link, const Header& header, std::span<iovec> payload) noexcept;
  void deliver(VsockLink& link, std::span<iovec> payload, std::uint32_t size) noexcept;
  void on_request(const Header& header) noexcept;
  std::shared_ptr<VsockEndpoint> accept(const Header& header);
  void refuse(const Header& header) noexcept;
  void attend(VsockLink& link) noexcept;

  // Host to guest.
  bool serve_rx() noexcept;
  bool send_control() noexcept;
  std::uint32_t fill(VsockLink& link) noexcept;
  Header header_for(VsockLink& link, std::uint16_t op) const noexcept;

  // The table of connections.
  VsockLink* find(std::uint64_t key) noexcept;
  VsockLink& add(std::uint64_t key, VsockConnection connection, std::shared_ptr<VsockEndpoint> endpoint);
  std::uint64_t unused_key(std::uint32_t guest_port) noexcept;
  bool full() const noexcept { return links_.size() + draining_.size() >= max_connections; }
  void settle(VsockLink& link) noexcept;
  void hang_up(VsockLink& link, bool clean) noexcept;
  void on_guest_reset(VsockLink& link) noexcept;
  void forget(VsockLink& link) noexcept;

  EventLoop& loop_;
  std::uint64_t guest_cid_;
  std::unordered_map<std::uint32_t, std::shared_ptr<Accept>> listeners_;
  AcceptOther accept_other_;
  std::uint32_t next_host_port_;
  log::FaultLimit faults_;

  // What the driver set up; empty before activation and after reset.
  std::optional<VsockRx> rx_;
  std::optional<Virtqueue> tx_;
  Interrupt* interrupt_ = nullptr;
  std::move_only_function<void()> needs_reset_;
  DescriptorChain tx_chain_;

  /// Keyed by host port and guest port, which name a connection.
  std::unordered_map<std::uint64_t, std::unique_ptr<VsockLink>> links_;
  /// Forgotten by the guest, while bytes of it still wait for the host end.
  std::vector<std::unique_ptr<VsockLink>> draining_;
  std::deque<Header> refusals_;  // RSTs for packets that belong to no connection; bounded
  VsockTurns attend_{&VsockLink::in_attend};
  VsockTurns control_{&VsockLink::in_control};
  VsockTurns fill_{&VsockLink::in_fill};
  /// Dropped by their own call to `close`, so not destroyed before that has returned.
  std::vector<std::shared_ptr<VsockEndpoint>> let_go_;

  bool scheduled_ = false;
  /// Outlives the device in tasks that were posted; then null.
  std::shared_ptr<Vsock*> self_;
};

}  // namespace minivm::virtio

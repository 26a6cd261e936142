#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "devices/virtio/spec.h"

namespace minivm::virtio {

/// One stream connection between the guest and a host end (VirtIO 1.2, 5.10.6): its state, the credit of both
/// directions, and the guest's bytes that the host end has not taken yet. Pure: packets in, packets to send out.
class VsockConnection {
 public:
  /// How many of the guest's bytes may wait for the host end (5.10.6.3). The buffer is allocated when one has to.
  static constexpr std::uint32_t buf_alloc = 256 * 1024;

  /// What a packet of the guest means.
  enum class Event : std::uint8_t {
    noted,        // nothing more to do than to look at the state again
    established,  // the guest accepts our request
    data,         // `len` bytes follow: for `take` or `keep`
    reset,        // the guest has forgotten the connection
    violation,    // the guest broke the rules: only `reset` is left
  };

  /// A packet without payload that is due.
  struct Control {
    std::uint16_t op = 0;
    std::uint32_t flags = 0;
  };

  /// Answers the guest's request.
  static VsockConnection accept(const vsock::PacketHeader& request) noexcept;
  /// Asks the guest.
  static VsockConnection dial() noexcept;

  /// Judges a packet that is addressed to this connection.
  Event on_packet(const vsock::PacketHeader& header) noexcept;

  bool established() const noexcept { return state_ == State::established; }

  // Guest to host.

  /// Bytes that came and were not taken, those of the packet at hand included.
  std::uint32_t backlog() const noexcept { return received_ - forwarded_; }
  /// The host end took the first `size` bytes of the backlog.
  void take(std::uint32_t size) noexcept;
  /// Copies the last bytes of the packet at hand, as many as `rest` has, into the buffer.
  void keep(std::span<const iovec> rest) noexcept;
  /// The backlog in the buffer, in at most two pieces.
  std::span<const iovec> kept() noexcept;
  /// The host end takes no more: what waits and what still comes is dropped.
  void end_receive() noexcept;
  bool receive_ended() const noexcept { return (host_ended_ & vsock::shutdown_receive) != 0; }
  /// The guest said that it sends no more, and the host end took it all.
  bool received_all() const noexcept { return (guest_ended_ & vsock::shutdown_send) != 0 && backlog() == 0; }

  // Host to guest.

  /// How much the guest has room for; 0 as long as nothing may be sent.
  std::uint32_t send_credit() const noexcept;
  void sent(std::uint32_t size) noexcept { sent_ += size; }
  /// The host end has no more to send.
  void end_send() noexcept;
  /// Nothing goes to the guest any more, by the host end's wish or the guest's.
  bool send_ended() const noexcept;
  /// The guest said that it reads no more, or is gone.
  bool guest_stopped_reading() const noexcept;

  // The end.

  /// Nothing is left to do for the host end.
  bool finished() const noexcept;
  /// Both directions ended in order.
  bool clean() const noexcept { return (received_all() || receive_ended()) && send_ended(); }
  /// Ends it at once: what is left is to tell the guest, unless the guest does not know of it.
  void reset() noexcept;
  /// The guest knows nothing of this connection, or does not any more.
  bool gone() const noexcept { return state_ == State::gone; }

  // Packets to the guest.

  bool control_due() const noexcept { return due_ != 0; }
  /// The most urgent packet; it counts as sent.
  std::optional<Control> next_control() noexcept;
  /// Puts our credit into a packet, which makes an update of its own needless.
  void stamp(vsock::PacketHeader& header) noexcept;

 private:
  enum class State : std::uint8_t { dialing, established, reset, gone };

  explicit VsockConnection(State state, std::uint16_t first_op) noexcept;
  void mark_due(std::uint16_t op) noexcept { due_ |= 1U << op; }
  bool is_due(std::uint16_t op) const noexcept { return (due_ & (1U << op)) != 0; }
  Event on_established_packet(const vsock::PacketHeader& header) noexcept;
  Event on_data(std::uint32_t size) noexcept;

  State state_;
  std::uint32_t due_ = 0;  // a bit for each op

  // All four count bytes of payload modulo 2^32, as the protocol does.
  std::uint32_t received_ = 0;
  std::uint32_t forwarded_ = 0;
  std::uint32_t announced_ = 0;  // forwarded_ as the guest knows it
  std::uint32_t sent_ = 0;
  std::uint32_t guest_forwarded_ = 0;
  std::uint32_t guest_buf_alloc_ = 0;

  std::uint32_t guest_ended_ = 0;  // shutdown flags that came; they are sticky
  std::uint32_t host_ended_ = 0;   // shutdown flags for the guest

  std::unique_ptr<std::byte[]> buffer_;  // byte n of the stream lies at n modulo buf_alloc
  std::array<iovec, 2> kept_{};
};

}  // namespace minivm::virtio

#include "devices/virtio/vsock_connection.h"

#include <algorithm>
#include <cstring>

namespace minivm::virtio {
namespace {

// The stream's position finds its place in the buffer even when the 32-bit counters wrap around.
static_assert((VsockConnection::buf_alloc & (VsockConnection::buf_alloc - 1)) == 0);

/// The guest is told about room once it sees less than half of the buffer, and then only about news of this size: a
/// host end that takes a little at a time must not cause a packet each time.
constexpr std::uint32_t low_credit = VsockConnection::buf_alloc / 2;
constexpr std::uint32_t worth_telling = VsockConnection::buf_alloc / 4;

/// A RST makes the rest needless; an answer comes before everything else about the connection; the news that no
/// more will be sent comes last.
constexpr std::array urgency = {vsock::op_rst, vsock::op_request, vsock::op_response, vsock::op_credit_update,
                                vsock::op_shutdown};

}  // namespace

VsockConnection::VsockConnection(State state, std::uint16_t first_op) noexcept : state_(state) { mark_due(first_op); }

VsockConnection VsockConnection::accept(const vsock::PacketHeader& request) noexcept {
  VsockConnection connection(State::established, vsock::op_response);
  connection.guest_buf_alloc_ = request.buf_alloc;
  connection.guest_forwarded_ = request.fwd_cnt;
  return connection;
}

VsockConnection VsockConnection::dial() noexcept { return VsockConnection(State::dialing, vsock::op_request); }

VsockConnection::Event VsockConnection::on_packet(const vsock::PacketHeader& header) noexcept {
  if (header.op == vsock::op_rst) {
    state_ = State::gone;
    due_ = 0;
    return Event::reset;
  }
  if (state_ == State::reset || state_ == State::gone) return Event::noted;  // our RST is on its way
  guest_buf_alloc_ = header.buf_alloc;
  guest_forwarded_ = header.fwd_cnt;
  if (state_ == State::established) return on_established_packet(header);
  if (header.op != vsock::op_response || is_due(vsock::op_request)) return Event::violation;
  state_ = State::established;
  return Event::established;
}

VsockConnection::Event VsockConnection::on_established_packet(const vsock::PacketHeader& header) noexcept {
  switch (header.op) {
    case vsock::op_rw:
      return on_data(header.len);
    case vsock::op_shutdown:
      guest_ended_ |= header.flags & (vsock::shutdown_receive | vsock::shutdown_send);
      return Event::noted;
    case vsock::op_credit_request:
      mark_due(vsock::op_credit_update);
      return Event::noted;
    case vsock::op_credit_update:
      return Event::noted;
    default:
      return Event::violation;
  }
}

VsockConnection::Event VsockConnection::on_data(std::uint32_t size) noexcept {
  if ((guest_ended_ & vsock::shutdown_send) != 0) return Event::violation;
  // VirtIO 1.2, 5.10.6.3.1: the peer sends no more than there is room for.
  if (size > buf_alloc - backlog()) return Event::violation;
  received_ += size;
  return Event::data;
}

void VsockConnection::take(std::uint32_t size) noexcept {
  forwarded_ += size;
  const std::uint32_t seen_by_guest = buf_alloc - (received_ - announced_);
  if (seen_by_guest < low_credit && forwarded_ - announced_ >= worth_telling && established()) {
    mark_due(vsock::op_credit_update);
  }
}

void VsockConnection::keep(std::span<const iovec> rest) noexcept {
  if (!buffer_) buffer_ = std::make_unique_for_overwrite<std::byte[]>(buf_alloc);
  std::size_t size = 0;
  for (const iovec& part : rest) size += part.iov_len;
  std::size_t position = (received_ - static_cast<std::uint32_t>(size)) % buf_alloc;
  for (const iovec& part : rest) {
    const auto* from = static_cast<const std::byte*>(part.iov_base);
    const std::size_t before_wrap = std::min<std::size_t>(part.iov_len, buf_alloc - position);
    std::memcpy(buffer_.get() + position, from, before_wrap);
    std::memcpy(buffer_.get(), from + before_wrap, part.iov_len - before_wrap);
    position = (position + part.iov_len) % buf_alloc;
  }
}

std::span<const iovec> VsockConnection::kept() noexcept {
  if (backlog() == 0) return {};
  const std::uint32_t position = forwarded_ % buf_alloc;
  const std::uint32_t before_wrap = std::min(backlog(), buf_alloc - position);
  kept_[0] = {buffer_.get() + position, before_wrap};
  kept_[1] = {buffer_.get(), backlog() - before_wrap};
  return std::span(kept_).first(kept_[1].iov_len == 0 ? 1 : 2);
}

void VsockConnection::end_receive() noexcept {
  host_ended_ |= vsock::shutdown_receive;
  take(backlog());
  if (established()) mark_due(vsock::op_shutdown);
}

std::uint32_t VsockConnection::send_credit() const noexcept {
  if (!established() || send_ended()) return 0;
  const std::uint32_t in_flight = sent_ - guest_forwarded_;
  // A guest may make its buffer smaller than what is on its way.
  return in_flight < guest_buf_alloc_ ? guest_buf_alloc_ - in_flight : 0;
}

void VsockConnection::end_send() noexcept {
  host_ended_ |= vsock::shutdown_send;
  if (established()) mark_due(vsock::op_shutdown);
}

bool VsockConnection::guest_stopped_reading() const noexcept {
  return (guest_ended_ & vsock::shutdown_receive) != 0 || gone();
}

bool VsockConnection::send_ended() const noexcept {
  return (host_ended_ & vsock::shutdown_send) != 0 || (guest_ended_ & vsock::shutdown_receive) != 0;
}

bool VsockConnection::finished() const noexcept {
  if (gone()) return backlog() == 0;
  return established() && clean();
}

void VsockConnection::reset() noexcept {
  const bool unknown_to_guest = gone() || is_due(vsock::op_request);
  state_ = unknown_to_guest ? State::gone : State::reset;
  due_ = 0;
  if (!unknown_to_guest) mark_due(vsock::op_rst);
}

std::optional<VsockConnection::Control> VsockConnection::next_control() noexcept {
  for (const std::uint16_t op : urgency) {
    if (!is_due(op)) continue;
    due_ &= ~(1U << op);
    if (op == vsock::op_rst) state_ = State::gone;
    return Control{.op = op, .flags = op == vsock::op_shutdown ? host_ended_ : 0};
  }
  return std::nullopt;
}

void VsockConnection::stamp(vsock::PacketHeader& header) noexcept {
  header.buf_alloc = buf_alloc;
  header.fwd_cnt = forwarded_;
  announced_ = forwarded_;
  due_ &= ~(1U << vsock::op_credit_update);
}

}  // namespace minivm::virtio

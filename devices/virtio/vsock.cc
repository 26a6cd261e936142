#include "devices/virtio/vsock.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <utility>

#include "devices/virtio/iovecs.h"

namespace minivm::virtio {
namespace {

/// Linux fills the rx queue with 4 KiB buffers: 512 KiB, twice a connection's credit. Its event list has 8 entries.
constexpr std::array<std::uint16_t, 3> sizes = {128, 128, 8};

// What one call of `work` may do before other handlers of the loop get their turn.
constexpr int max_tx_packets = 128;
constexpr std::uint64_t max_tx_bytes = 1 << 20;
constexpr int max_rx_turns = 256;
constexpr std::uint32_t max_rx_bytes = 256 * 1024;
/// One endpoint's share before the next one's turn.
constexpr std::uint32_t max_fill = 64 * 1024;

/// When so many wait for rx buffers, no packet is taken from the guest until it posts some.
constexpr std::size_t max_refusals = 256;

/// Host ports of connections that the host dials; far from those that anyone listens on.
constexpr std::uint32_t first_dynamic_port = 0x8000'0000;
constexpr std::uint32_t last_dynamic_port = 0xFFFF'FFFE;  // above it: VMADDR_PORT_ANY

constexpr std::uint64_t make_key(std::uint32_t host_port, std::uint32_t guest_port) noexcept {
  return std::uint64_t{host_port} << 32 | guest_port;
}

}  // namespace

Vsock::Vsock(std::uint64_t guest_cid, EventLoop& loop)
    : loop_(loop), guest_cid_(guest_cid), next_host_port_(first_dynamic_port), self_(std::make_shared<Vsock*>(this)) {}

Vsock::~Vsock() { *self_ = nullptr; }

void Vsock::listen(std::uint32_t host_port, Accept accept) {
  listeners_[host_port] = std::make_shared<Accept>(std::move(accept));
}

void Vsock::listen_to_others(AcceptOther accept) { accept_other_ = std::move(accept); }

std::uint32_t Vsock::connect(std::uint32_t guest_port, std::shared_ptr<VsockEndpoint> endpoint,
                             std::chrono::milliseconds timeout) {
  if (full()) {
    loop_.post([endpoint = std::move(endpoint)] { endpoint->closed(false); });
    return 0;
  }
  VsockLink& link = add(unused_key(guest_port), VsockConnection::dial(), std::move(endpoint));
  link.answer_timer = loop_.after(timeout, [this, &link] {
    link.answer_timer = 0;
    hang_up(link, false);
    attend_later(link);
  });
  attend_later(link);
  return link.host_port();
}

void Vsock::disconnect(std::uint32_t host_port, std::uint32_t guest_port) noexcept {
  VsockLink* const link = find(make_key(host_port, guest_port));
  if (link == nullptr) return;
  hang_up(*link, false);
  attend_later(*link);
}

std::uint32_t Vsock::type() const noexcept { return device_id::vsock; }

// Streams are implied when no socket type is offered (VirtIO 1.2, 5.10.3).
std::uint64_t Vsock::features() const noexcept {
  return feature::version_1 | feature::indirect_desc | feature::event_idx;
}

std::span<const std::uint16_t> Vsock::queue_sizes() const noexcept { return sizes; }

void Vsock::read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept {
  const vsock::Config config{.guest_cid = guest_cid_};
  const auto bytes = std::as_bytes(std::span(&config, 1));
  std::ranges::fill(data, std::byte{0});
  if (offset < bytes.size())
    std::ranges::copy(bytes.subspan(offset).first(std::min(data.size(), bytes.size() - offset)), data.begin());
}

void Vsock::activate(Activation activation) noexcept {
  interrupt_ = activation.interrupt;
  needs_reset_ = std::move(activation.needs_reset);
  const auto take = [&](std::size_t index) {
    return index < activation.queues.size() ? std::exchange(activation.queues[index], std::nullopt) : std::nullopt;
  };
  if (auto queue = take(vsock::rx_queue)) rx_.emplace(*std::move(queue));
  tx_ = take(vsock::tx_queue);
}

void Vsock::on_notify(std::uint16_t) noexcept { work(); }

void Vsock::reset() noexcept {
  // Before activation there are only connections that the guest has not heard of: they may wait for it.
  if (interrupt_ == nullptr) return;
  rx_.reset();
  tx_.reset();
  interrupt_ = nullptr;
  needs_reset_ = nullptr;
  refusals_.clear();
  attend_.clear();
  control_.clear();
  fill_.clear();
  std::vector<std::shared_ptr<VsockEndpoint>> endpoints;
  for (auto& [key, link] : links_) endpoints.push_back(std::exchange(link->endpoint, nullptr));
  for (auto& link : draining_) endpoints.push_back(std::exchange(link->endpoint, nullptr));
  links_.clear();
  draining_.clear();
  let_go_.clear();
  for (const auto& endpoint : endpoints) {
    if (endpoint) endpoint->closed(false);
  }
}

void Vsock::work() noexcept {
  const auto let_go = std::exchange(let_go_, {});
  bool more = serve_tx();
  const bool tx_stalled = refusals_.size() >= max_refusals;
  for (std::size_t turns = attend_.size(); turns > 0 && !attend_.empty(); --turns) attend(attend_.take());
  more |= serve_rx();
  more |= tx_stalled && refusals_.size() < max_refusals;
  interrupt_guest();
  if (more || !attend_.empty()) schedule();
}

void Vsock::schedule() noexcept {
  if (std::exchange(scheduled_, true)) return;
  loop_.post([self = self_] {
    if (*self == nullptr) return;
    (*self)->scheduled_ = false;
    (*self)->work();
  });
}

// One interrupt for all that a turn has returned to both queues.
void Vsock::interrupt_guest() noexcept {
  std::array<std::uint16_t, 2> queues{};
  std::size_t count = 0;
  if (rx_ && rx_->needs_interrupt()) queues[count++] = vsock::rx_queue;
  if (tx_ && tx_->needs_interrupt()) queues[count++] = vsock::tx_queue;
  if (count > 0 && interrupt_ != nullptr) interrupt_->signal_used(std::span(queues).first(count));
  const bool broken = (rx_ && rx_->broken()) || (tx_ && tx_->broken());
  if (broken && needs_reset_) std::exchange(needs_reset_, nullptr)();
}

void Vsock::attend_later(VsockLink& link) noexcept {
  attend_.add(link);
  schedule();
}

bool Vsock::serve_tx() noexcept {
  if (!tx_) return false;
  tx_->disable_notifications();
  std::uint64_t bytes = 0;
  for (int packets = 0; packets < max_tx_packets && bytes < max_tx_bytes; ++packets) {
    if (refusals_.size() >= max_refusals) return false;
    if (!tx_->pop(tx_chain_)) {
      if (!tx_->enable_notifications()) return false;
      tx_->disable_notifications();
      continue;
    }
    bytes += tx_chain_.readable_size();
    on_packet(tx_chain_);
    tx_->push_used(tx_chain_.head(), 0);
  }
  return true;
}

void Vsock::on_packet(DescriptorChain& chain) noexcept {
  Header header;
  if (copy_front(chain.readable(), std::as_writable_bytes(std::span(&header, 1))) != sizeof header) {
    return faults_.warning("vsock: packet of {} bytes has no room for a header", chain.readable_size());
  }
  if (header.src_cid != guest_cid_) {
    return faults_.warning("vsock: packet claims to come from CID {}", std::uint64_t{header.src_cid});
  }
  const bool for_us = header.dst_cid == host_cid && header.type == vsock::type_stream;
  const bool complete = header.op != vsock::op_rw || header.len <= chain.readable_size() - sizeof header;
  VsockLink* const link = for_us ? find(make_key(header.dst_port, header.src_port)) : nullptr;
  if (link == nullptr) {
    return for_us && header.op == vsock::op_request ? on_request(header) : refuse(header);
  }
  if (!complete) {
    faults_.warning("vsock: packet announces {} bytes of payload and has less", std::uint32_t{header.len});
    hang_up(*link, false);
    return settle(*link);
  }
  on_link_packet(*link, header, keep_front(drop_front(chain.readable(), sizeof header), header.len));
}

void Vsock::on_link_packet(VsockLink& link, const Header& header, std::span<iovec> payload) noexcept {
  switch (link.connection.on_packet(header)) {
    case VsockConnection::Event::noted:
      break;
    case VsockConnection::Event::established:
      loop_.cancel(std::exchange(link.answer_timer, 0));
      link.endpoint->attached(link);
      break;
    case VsockConnection::Event::data:
      deliver(link, payload, header.len);
      break;
    case VsockConnection::Event::reset:
      return on_guest_reset(link);
    case VsockConnection::Event::violation:
      faults_.warning("vsock: operation {} breaks the rules on port {}", std::uint16_t{header.op}, link.host_port());
      hang_up(link, false);
      break;
  }
  settle(link);
}

// The endpoint gets the guest's own buffers; only what it does not take is copied.
void Vsock::deliver(VsockLink& link, std::span<iovec> payload, std::uint32_t size) noexcept {
  VsockConnection& connection = link.connection;
  if (connection.receive_ended()) return connection.take(size);
  std::size_t taken = 0;
  if (size != 0 && connection.backlog() == size) {
    taken = std::min<std::size_t>(link.endpoint->receive(payload), size);
    if (!link.endpoint || connection.receive_ended()) return;
    connection.take(static_cast<std::uint32_t>(taken));
  }
  if (taken < size) connection.keep(drop_front(payload, taken));
}

// After a call to its stream: offers what was kept, and looks at the connection anew.
void Vsock::attend(VsockLink& link) noexcept {
  VsockConnection& connection = link.connection;
  if (link.endpoint && connection.backlog() != 0) {
    const std::size_t taken = std::min<std::size_t>(link.endpoint->receive(connection.kept()), connection.backlog());
    if (link.endpoint && !connection.receive_ended()) connection.take(static_cast<std::uint32_t>(taken));
  }
  settle(link);
}

void Vsock::on_request(const Header& header) noexcept {
  if (full()) return refuse(header);
  std::shared_ptr<VsockEndpoint> endpoint;
  try {
    endpoint = accept(header);
  } catch (const std::exception& error) {
    faults_.warning("vsock: connection to port {}: {}", std::uint32_t{header.dst_port}, error.what());
  }
  if (!endpoint) return refuse(header);
  VsockLink& link = add(make_key(header.dst_port, header.src_port), VsockConnection::accept(header), endpoint);
  endpoint->attached(link);
  settle(link);
}

std::shared_ptr<VsockEndpoint> Vsock::accept(const Header& header) {
  const auto listener = listeners_.find(header.dst_port);
  if (listener == listeners_.end()) return accept_other_ ? accept_other_(header.dst_port) : nullptr;
  // Held, since the listener may replace itself.
  const std::shared_ptr<Accept> own = listener->second;
  return (*own)(header.src_port);
}

// VirtIO 1.2, 5.10.6.4: what belongs to no connection is answered with RST, except a RST.
void Vsock::refuse(const Header& header) noexcept {
  if (header.op == vsock::op_rst) return;
  refusals_.push_back({.src_cid = header.dst_cid,
                       .dst_cid = header.src_cid,
                       .src_port = header.dst_port,
                       .dst_port = header.src_port,
                       .type = header.type,
                       .op = vsock::op_rst});
}

bool Vsock::serve_rx() noexcept {
  if (!rx_) return false;
  std::uint32_t bytes = 0;
  for (int turns = 0; turns < max_rx_turns && bytes < max_rx_bytes; ++turns) {
    if (refusals_.empty() && control_.empty() && fill_.empty()) return false;
    if (rx_->ready()) {
      if (!send_control()) bytes += fill(fill_.take());
    } else if (!rx_->wait_for_buffers()) {
      return false;
    }
  }
  return true;
}

// Goes before data: an answer must, and a stream must not hold up the others' control packets.
bool Vsock::send_control() noexcept {
  if (!refusals_.empty()) {
    rx_->send(refusals_.front(), 0);
    refusals_.pop_front();
    return true;
  }
  if (control_.empty()) return false;
  VsockLink& link = control_.take();
  if (const auto control = link.connection.next_control()) {
    Header header = header_for(link, control->op);
    header.flags = control->flags;
    rx_->send(header, 0);
  }
  settle(link);
  return true;
}

// One read of the endpoint, straight into the guest's buffers.
std::uint32_t Vsock::fill(VsockLink& link) noexcept {
  VsockConnection& connection = link.connection;
  const std::uint32_t limit = std::min(connection.send_credit(), max_fill);
  if (!link.endpoint || limit == 0) return 0;
  link.may_fill = false;  // before the call: the endpoint may resume inside it
  const VsockEndpoint::Filled filled = link.endpoint->fill(rx_->space(limit));
  const auto size = static_cast<std::uint32_t>(std::min<std::size_t>(filled.size, limit));
  if (!link.endpoint) return 0;
  if (size != 0) {
    rx_->send(header_for(link, vsock::op_rw), size);
    connection.sent(size);
    link.may_fill = true;
  }
  if (filled.end) {
    connection.end_send();
    link.told_fill_ended = true;
  }
  settle(link);
  return size;
}

Vsock::Header Vsock::header_for(VsockLink& link, std::uint16_t op) const noexcept {
  Header header{.src_cid = host_cid,
                .dst_cid = guest_cid_,
                .src_port = link.host_port(),
                .dst_port = link.guest_port(),
                .type = vsock::type_stream,
                .op = op};
  link.connection.stamp(header);
  return header;
}

VsockLink* Vsock::find(std::uint64_t key) noexcept {
  const auto found = links_.find(key);
  return found == links_.end() ? nullptr : found->second.get();
}

VsockLink& Vsock::add(std::uint64_t key, VsockConnection connection, std::shared_ptr<VsockEndpoint> endpoint) {
  auto link = std::make_unique<VsockLink>(*this, key, std::move(connection), std::move(endpoint));
  return *links_.emplace(key, std::move(link)).first->second;
}

// There are more dynamic ports than connections, so this ends.
std::uint64_t Vsock::unused_key(std::uint32_t guest_port) noexcept {
  std::uint64_t key = 0;
  do {
    key = make_key(next_host_port_, guest_port);
    next_host_port_ = next_host_port_ == last_dynamic_port ? first_dynamic_port : next_host_port_ + 1;
  } while (links_.contains(key));
  return key;
}

// Tells the endpoint what its connection has come to, and queues what is to be sent. The link may be gone after it.
void Vsock::settle(VsockLink& link) noexcept {
  VsockConnection& connection = link.connection;
  const auto tell_once = [&](bool due, bool& told, void (VsockEndpoint::*news)()) {
    if (due && link.endpoint && !std::exchange(told, true)) (*link.endpoint.*news)();
  };
  tell_once(connection.guest_stopped_reading(), link.told_fill_ended, &VsockEndpoint::fill_ended);
  const bool all_received = connection.received_all() && !connection.receive_ended();
  tell_once(all_received, link.told_receive_ended, &VsockEndpoint::receive_ended);
  if (link.endpoint && connection.finished()) hang_up(link, connection.clean());
  if (!link.endpoint && connection.gone()) return forget(link);
  if (connection.control_due()) control_.add(link);
  if (link.endpoint && link.may_fill && connection.send_credit() != 0) fill_.add(link);
}

void Vsock::hang_up(VsockLink& link, bool clean) noexcept {
  link.connection.reset();
  if (const auto endpoint = std::exchange(link.endpoint, nullptr)) endpoint->closed(clean);
}

// The guest may use the same ports again at once; what it had sent before still goes to the host end.
void Vsock::on_guest_reset(VsockLink& link) noexcept {
  draining_.push_back(std::move(links_.extract(link.key).mapped()));
  settle(link);
}

void Vsock::forget(VsockLink& link) noexcept {
  attend_.remove(link);
  control_.remove(link);
  fill_.remove(link);
  const auto found = links_.find(link.key);
  if (found != links_.end() && found->second.get() == &link) {
    links_.erase(found);
  } else {
    std::erase_if(draining_, [&](const auto& each) { return each.get() == &link; });
  }
}

}  // namespace minivm::virtio

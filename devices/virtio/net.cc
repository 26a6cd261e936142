#include "devices/virtio/net.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "devices/virtio/config_space.h"
#include "devices/virtio/iovecs.h"
#include "devices/virtio/net_header.h"

namespace minivm::virtio {
namespace {

constexpr std::uint64_t guest_offload_bits = net::feature_guest_csum | net::feature_guest_tso4 |
                                             net::feature_guest_tso6 | net::feature_guest_ecn |
                                             net::feature_guest_uso4 | net::feature_guest_uso6;
constexpr std::uint64_t guest_segmentation_bits = guest_offload_bits & ~net::feature_guest_csum;

/// VirtIO 1.2, 5.1.2.
constexpr std::uint16_t rx_queue(std::uint16_t pair) noexcept { return static_cast<std::uint16_t>(2 * pair); }
constexpr std::uint16_t tx_queue(std::uint16_t pair) noexcept { return static_cast<std::uint16_t>(2 * pair + 1); }

}  // namespace

Net::Net(std::unique_ptr<NetBackend> backend, const net::MacAddress& mac)
    : backend_(std::move(backend)),
      mac_(mac),
      queue_sizes_(std::size_t{2} * backend_->queue_pairs() + 1, queue_size),
      pairs_(backend_->queue_pairs()) {}

std::uint64_t Net::features() const noexcept {
  const std::uint64_t offloads = backend_->offloads();
  const bool segments = (offloads & guest_segmentation_bits) != 0;
  const bool several = backend_->queue_pairs() > 1;
  return feature::version_1 | feature::indirect_desc | feature::event_idx | net::feature_mac | net::feature_status |
         net::feature_mtu | net::feature_mrg_rxbuf | offloads | (several ? net::feature_mq : 0) |
         (segments ? net::feature_ctrl_guest_offloads : 0) | (segments || several ? net::feature_ctrl_vq : 0);
}

void Net::read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept {
  const net::Config config{.mac = mac_,
                           .status = net::status_link_up,
                           .max_virtqueue_pairs = backend_->queue_pairs(),
                           .mtu = backend_->mtu()};
  copy_config(std::as_bytes(std::span(&config, 1)), offset, data);
}

void Net::activate(Activation activation) noexcept {
  const std::uint64_t features = activation.features;
  const bool mergeable = (features & net::feature_mrg_rxbuf) != 0;
  const std::size_t pairs = (features & net::feature_mq) != 0 ? pairs_.size() : 1;
  // VirtIO 1.2, 5.1.2: without MQ the control queue follows the first pair.
  control_index_ = static_cast<std::uint16_t>(2 * pairs);
  for (std::size_t i = 0; i < pairs; ++i) {
    if (auto& rx = activation.queues.at(2 * i)) {
      pairs_[i].rx.emplace(std::move(*rx), mergeable, largest_frame(features & guest_offload_bits));
    }
    pairs_[i].tx = std::move(activation.queues.at(2 * i + 1));
  }
  if ((features & net::feature_ctrl_vq) != 0) control_ = std::move(activation.queues.at(control_index_));
  used_pairs_ = 1;
  active_ = std::move(activation);
  active_->queues.clear();
  backend_->start({.frames = [this](std::uint16_t pair) { serve_rx(pair); },
                   .room = [this](std::uint16_t pair) { serve_tx(pair); }});
  backend_->set_guest_offloads(features & guest_offload_bits);
}

void Net::reset() noexcept {
  if (!active_) return;
  backend_->stop();
  for (Pair& pair : pairs_) pair = {};
  control_.reset();
  used_pairs_ = 0;
  active_.reset();
}

void Net::on_notify(std::uint16_t queue) noexcept {
  if (!active_) return;
  if (queue == control_index_) return serve_control();
  const auto pair = static_cast<std::uint16_t>(queue / 2);
  if (queue % 2 == 0) {
    serve_rx(pair);
  } else {
    serve_tx(pair);
  }
}

// Both the backend's frames and the driver's new buffers lead here: whichever was missing.
void Net::serve_rx(std::uint16_t pair) noexcept {
  if (pair >= used_pairs_) return;
  if (!pairs_[pair].rx) return backend_->want_frames(pair, false);
  NetRx& rx = *pairs_[pair].rx;
  rx.disable_notifications();
  bool starved = false;
  int left = max_batch;
  for (; left > 0; --left) {
    if (rx.gather()) {
      if (!rx.receive(*backend_, pair)) break;
    } else if (!rx.wait_for_buffers()) {
      starved = true;
      break;
    }
  }
  backend_->want_frames(pair, !starved && !rx.broken());
  if (rx.needs_interrupt()) active_->interrupt->signal_used(rx_queue(pair));
  if (left == 0) active_->call_again(rx_queue(pair));
  if (!rx.broken()) return;
  active_->needs_reset();
  pairs_[pair].rx.reset();
}

void Net::serve_tx(std::uint16_t pair) noexcept {
  if (pair >= used_pairs_ || !pairs_[pair].tx) return;
  Virtqueue& tx = *pairs_[pair].tx;
  tx.disable_notifications();
  bool blocked = false;
  int left = max_batch;
  for (; left > 0 && tx.pop(chain_); --left) {
    blocked = !transmit(pair);
    if (blocked) {
      tx.undo_pop();
      break;
    }
    tx.stage_used(chain_.head(), 0);
  }
  tx.publish_used();
  const bool more = !blocked && (left == 0 || tx.enable_notifications());
  if (tx.needs_interrupt()) active_->interrupt->signal_used(tx_queue(pair));
  if (more) active_->call_again(tx_queue(pair));
  if (!tx.broken()) return;
  active_->needs_reset();
  pairs_[pair].tx.reset();
}

// Sends the frame in chain_. False when the backend has no room for it.
bool Net::transmit(std::uint16_t pair) noexcept {
  // Judged as a copy: the driver can change the original at any time.
  net::Header header;
  const bool whole = copy_front(chain_.readable(), std::as_writable_bytes(std::span(&header, 1))) == sizeof header;
  const std::size_t size = whole ? chain_.readable_size() - sizeof header : 0;
  auto judged = judge_header(header, size, active_->features);
  const std::span<iovec> data = drop_front(chain_.readable(), sizeof header);
  if (!judged || data.size() >= frame_.size()) {
    faults_.warning("network device: frame of {} bytes in {} parts, flags {:#x}, gso type {:#x}: dropped", size,
                    data.size(), header.flags, header.gso_type);
    return true;
  }
  frame_[0] = {&*judged, sizeof *judged};
  std::ranges::copy(data, frame_.begin() + 1);
  return backend_->send(pair, std::span(frame_).first(data.size() + 1));
}

void Net::serve_control() noexcept {
  if (!control_) return;
  control_->disable_notifications();
  int left = max_batch;
  for (; left > 0 && control_->pop(chain_); --left) control_->push_used(chain_.head(), execute(chain_));
  const bool more = left == 0 || control_->enable_notifications();
  if (control_->needs_interrupt()) active_->interrupt->signal_used(control_index_);
  if (more) active_->call_again(control_index_);
  if (!control_->broken()) return;
  active_->needs_reset();
  control_.reset();
}

// VirtIO 1.2, 5.1.6.5: class, command and data to read, one byte of answer to write.
std::uint32_t Net::execute(const DescriptorChain& chain) noexcept {
  std::array<std::byte, sizeof(net::ControlHeader) + sizeof(std::uint64_t)> command{};
  const std::size_t size = copy_front(chain.readable(), command);
  const std::array answer{std::byte{obey(std::span(command).first(size)) ? net::control_ok : net::control_error}};
  return static_cast<std::uint32_t>(store_front(chain.writable(), answer));
}

bool Net::obey(std::span<const std::byte> command) noexcept {
  net::ControlHeader header;
  if (command.size() < sizeof header) return false;
  std::memcpy(&header, command.data(), sizeof header);
  const auto data = command.subspan(sizeof header);
  if (header.command_class == net::class_mq && header.command == net::mq_vq_pairs_set) {
    std::uint16_t pairs = 0;
    if (data.size() < sizeof pairs) return false;
    std::memcpy(&pairs, data.data(), sizeof pairs);
    return use_pairs(pairs);
  }
  if (header.command_class == net::class_guest_offloads && header.command == net::guest_offloads_set) {
    std::uint64_t offloads = 0;
    if (data.size() < sizeof offloads) return false;
    std::memcpy(&offloads, data.data(), sizeof offloads);
    return set_guest_offloads(offloads);
  }
  return false;
}

bool Net::use_pairs(std::uint16_t pairs) noexcept {
  if ((active_->features & net::feature_mq) == 0 || pairs == 0 || pairs > pairs_.size()) return false;
  const std::uint16_t before = std::exchange(used_pairs_, pairs);
  backend_->use_pairs(pairs);
  // What was put into the rings of a pair before it was used.
  for (std::uint16_t pair = before; pair < pairs; ++pair) {
    active_->call_again(rx_queue(pair));
    active_->call_again(tx_queue(pair));
  }
  return true;
}

bool Net::set_guest_offloads(std::uint64_t offloads) noexcept {
  const bool negotiated = (active_->features & net::feature_ctrl_guest_offloads) != 0;
  if (!negotiated || (offloads & ~(active_->features & guest_offload_bits)) != 0) return false;
  // VirtIO 1.2, 5.1.3.1: segmentation needs checksums.
  const bool no_csum = (offloads & net::feature_guest_csum) == 0;
  if (no_csum && (offloads & guest_segmentation_bits) != 0) return false;
  backend_->set_guest_offloads(offloads);
  for (Pair& pair : pairs_) {
    if (pair.rx) pair.rx->set_largest_frame(largest_frame(offloads));
  }
  return true;
}

std::size_t Net::largest_frame(std::uint64_t offloads) const noexcept {
  if ((offloads & guest_segmentation_bits) != 0) return sizeof(net::Header) + net::max_frame_size;
  return sizeof(net::Header) + net::ethernet_header_size + net::vlan_tag_size + backend_->mtu();
}

}  // namespace minivm::virtio

#pragma once

#include <poll.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "devices/virtio/vsock.h"
#include "tests/fake_driver.h"

namespace minivm::test {

/// A guest's vsock driver in front of a real device, whose event loop runs on a thread of its own. The guest waits for
/// the device by its interrupt alone, as a real one does.
class VsockGuest {
 public:
  using Header = virtio::vsock::PacketHeader;
  struct Packet {
    Header header;
    std::string payload;
  };

  static constexpr std::uint64_t cid = 3;
  static constexpr std::uint64_t all_features =
      virtio::feature::version_1 | virtio::feature::indirect_desc | virtio::feature::event_idx;
  static constexpr std::uint32_t buf_alloc = 256 * 1024;

  explicit VsockGuest(std::uint64_t features = all_features) : thread_([this] { loop.run(); }) {
    for (std::uint32_t i = 0; i < rx_slots; ++i) slots_.push_back(rx.allocate(slot_size));
    on_loop([&] {
      virtio::Activation activation{.features = features, .queues = {}, .interrupt = &interrupt, .needs_reset = {}};
      activation.queues.emplace_back(rx.activate(features));
      activation.queues.emplace_back(tx.activate(features));
      activation.queues.emplace_back();
      activation.needs_reset = [this] { needs_reset = true; };
      device.activate(std::move(activation));
    });
  }
  ~VsockGuest() {
    loop.stop();
    thread_.join();
  }
  VsockGuest(const VsockGuest&) = delete;
  VsockGuest& operator=(const VsockGuest&) = delete;

  void on_loop(const std::function<void()>& task) { loop.run_sync(task); }
  /// Lets the device do what it has posted to itself.
  void settle() {
    for (int i = 0; i < 8; ++i) on_loop([] {});
  }

  /// Posts receive buffers as Linux 6.1 does: a header and 4 KiB.
  void post_rx(std::uint32_t count = rx_slots) {
    for (; count > 0 && !slots_.empty(); --count) {
      const Gpa slot = slots_.back();
      slots_.pop_back();
      rx.buffer_at(slot, sizeof(Header), true).buffer_at(slot + 64, 4096, true);
      slot_of_[rx.offer()] = slot;
    }
    notify(rx, virtio::vsock::rx_queue);
  }

  Header header(std::uint16_t op, std::uint32_t guest_port, std::uint32_t host_port, std::uint32_t len = 0) const {
    return {.src_cid = cid,
            .dst_cid = virtio::Vsock::host_cid,
            .src_port = guest_port,
            .dst_port = host_port,
            .len = len,
            .type = virtio::vsock::type_stream,
            .op = op,
            .flags = 0,
            .buf_alloc = buf_alloc,
            .fwd_cnt = 0};
  }

  void send(const Header& packet, std::string_view payload = {}) {
    tx.readable(packet);
    if (!payload.empty()) tx.readable(std::as_bytes(std::span(payload)));
    tx.offer();
    ++tx_outstanding_;
    notify_tx();
  }
  /// Only makes it available; `notify_tx` follows. False while too many are on their way: the fake driver hands out
  /// its buffers anew only after all of them have come back.
  bool queue(const Header& packet, std::string_view payload = {}) {
    while (tx_outstanding_ > 0 && tx.take_used()) --tx_outstanding_;
    if (tx_outstanding_ == 0) tx_queued_ = 0;
    if (tx_outstanding_ >= max_tx_outstanding || tx_queued_ >= max_tx_queued) return false;
    tx.readable(packet);
    if (!payload.empty()) tx.readable(std::as_bytes(std::span(payload)));
    tx.offer();
    ++tx_outstanding_;
    ++tx_queued_;
    return true;
  }
  void notify_tx() { notify(tx, virtio::vsock::tx_queue); }

  /// The next packet from the device, waited for; its buffer is posted anew. Nothing when none comes in 20 seconds.
  std::optional<Packet> receive() {
    for (;;) {
      if (auto packet = poll_packet()) return packet;
      pollfd poll{.fd = interrupt.fd(), .events = POLLIN, .revents = 0};
      if (::poll(&poll, 1, 20'000) <= 0) return std::nullopt;
      std::uint64_t count = 0;
      [[maybe_unused]] const auto size = ::read(interrupt.fd(), &count, sizeof count);
    }
  }
  /// A packet that is there already.
  std::optional<Packet> poll_packet() {
    const auto used = rx.take_used();
    if (!used) return std::nullopt;
    if (const auto slot = slot_of_.extract(used->head); !slot.empty()) {
      slots_.push_back(slot.mapped());
      if (reposts) post_rx(1);
    }
    Packet packet;
    std::memcpy(&packet.header, used->bytes.data(), sizeof packet.header);
    packet.payload.assign(reinterpret_cast<const char*>(used->bytes.data()) + sizeof packet.header, packet.header.len);
    if (used->written != sizeof(Header) + packet.header.len) throw std::logic_error("used length is not the packet's");
    return packet;
  }
  /// The next packet's operation; 0 when there is none now.
  std::uint16_t poll_op() {
    settle();
    const auto packet = poll_packet();
    return packet ? packet->header.op : std::uint16_t{0};
  }

  /// Connects and takes the RESPONSE; false when it was refused.
  bool connect(std::uint32_t guest_port, std::uint32_t host_port) {
    send(header(virtio::vsock::op_request, guest_port, host_port));
    const auto answer = receive();
    while (tx.take_used()) --tx_outstanding_;
    return answer && answer->header.op == virtio::vsock::op_response && answer->header.dst_port == guest_port &&
           answer->header.src_port == host_port;
  }
  /// Takes a connection that the host has dialled, which `receive` has shown.
  void accept(std::uint32_t guest_port, std::uint32_t host_port) {
    send(header(virtio::vsock::op_response, guest_port, host_port));
  }
  void shutdown(std::uint32_t guest_port, std::uint32_t host_port, std::uint32_t flags) {
    Header packet = header(virtio::vsock::op_shutdown, guest_port, host_port);
    packet.flags = flags;
    send(packet);
  }

  static constexpr std::uint32_t rx_slots = 60;
  static constexpr std::uint32_t max_tx_outstanding = 24;
  static constexpr std::uint32_t max_tx_queued = 200;
  static constexpr std::uint64_t slot_size = 8192;

  GuestMemory memory{64 << 20};
  EventLoop loop;
  virtio::InterruptLine interrupt;
  virtio::Vsock device{cid, loop};
  FakeDriver rx{memory, Gpa{0x10'0000}, 128, 8 << 20};
  FakeDriver tx{memory, Gpa{0x100'0000}, 128, 16 << 20};
  bool reposts = true;
  bool needs_reset = false;  // written on the loop's thread

 private:
  void notify(FakeDriver& driver, std::uint16_t queue) {
    if (driver.should_notify()) on_loop([&] { device.on_notify(queue); });
  }

  std::vector<Gpa> slots_;
  std::map<std::uint16_t, Gpa> slot_of_;
  std::uint32_t tx_outstanding_ = 0;
  std::uint32_t tx_queued_ = 0;  // since none was outstanding
  std::thread thread_;
};

}  // namespace minivm::test

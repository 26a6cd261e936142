#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "devices/virtio/vsock_endpoint.h"
#include "tests/vsock_guest.h"

namespace minivm::test {

/// A host end that notes what happens to it. Touched on the loop's thread only.
class RecordingEndpoint final : public virtio::VsockEndpoint {
 public:
  void attached(virtio::VsockStream& its_stream) noexcept override { stream = &its_stream; }
  std::size_t receive(std::span<const iovec> data) noexcept override {
    ++receives;
    std::size_t taken = 0;
    for (const iovec& part : data) {
      const std::size_t size = std::min(part.iov_len, room);
      received.append(static_cast<const char*>(part.iov_base), size);
      room -= size;
      taken += size;
    }
    if (end_receive_inside) stream->end_receive();
    if (close_inside) std::exchange(stream, nullptr)->close();
    return taken;
  }
  void receive_ended() noexcept override { events += "receive_ended "; }
  Filled fill(std::span<const iovec> space) noexcept override {
    Filled filled;
    for (const iovec& part : space) {
      const std::size_t size = std::min(part.iov_len, outgoing.size());
      std::memcpy(part.iov_base, outgoing.data(), size);
      outgoing.erase(0, size);
      filled.size += size;
    }
    filled.end = end_after_outgoing && outgoing.empty();
    return filled;
  }
  void fill_ended() noexcept override { events += "fill_ended "; }
  void closed(bool clean) noexcept override {
    stream = nullptr;
    events += clean ? "closed(clean) " : "closed(cut) ";
  }

  virtio::VsockStream* stream = nullptr;
  std::size_t room = ~std::size_t{0};
  std::string received;
  std::string outgoing;
  std::string events;
  int receives = 0;
  bool end_after_outgoing = false;
  bool end_receive_inside = false;
  bool close_inside = false;
};

/// A guest, and a host that records what comes to `port`.
struct VsockFixture {
  static constexpr std::uint32_t port = 5000;
  static constexpr std::uint32_t guest_port = 1024;

  explicit VsockFixture(std::uint64_t features = VsockGuest::all_features) : guest(features) {
    guest.on_loop([&] { guest.device.listen(port, [&](std::uint32_t) { return endpoint; }); });
  }

  void connect() { REQUIRE(guest.connect(guest_port, port)); }
  void send(std::string_view bytes) {
    guest.send(guest.header(virtio::vsock::op_rw, guest_port, port, static_cast<std::uint32_t>(bytes.size())), bytes);
  }
  /// What the endpoint noted, asked on the loop's thread.
  std::string events() {
    std::string result;
    guest.settle();
    guest.on_loop([&] { result = endpoint->events; });
    return result;
  }
  std::string received() {
    std::string result;
    guest.settle();
    guest.on_loop([&] { result = endpoint->received; });
    return result;
  }
  void host_sends(std::string_view bytes, bool end = false) {
    guest.on_loop([&] {
      endpoint->outgoing += bytes;
      endpoint->end_after_outgoing = end;
      endpoint->stream->resume_fill();
    });
  }

  VsockGuest guest;
  std::shared_ptr<RecordingEndpoint> endpoint = std::make_shared<RecordingEndpoint>();
};

}  // namespace minivm::test

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "protocol/wire.h"

namespace minivm::protocol {

/// Both ends say it first; they must agree.
inline constexpr std::uint32_t version = 2;
/// Host port (on CID 2) that the guest dials for the control connection.
inline constexpr std::uint32_t control_port = 1024;
/// Guest port that the host dials for each stream of an exec, from ports of its own that the exec request names.
inline constexpr std::uint32_t stream_port = 1024;

/// What a control frame carries. Unknown types are skipped by the receiver.
enum class FrameType : std::uint16_t {
  // guest to host
  hello = 1,        // Hello: sent first
  ready = 2,        // Ready: root mounted, exec requests are served
  failed = 3,       // Failed: the guest cannot become ready
  started = 4,      // Started, id of the exec
  exec_failed = 5,  // ExecFailed, id of the exec
  exited = 6,       // Exited, id of the exec; every stream's data and EOF were sent before it
  // host to guest
  welcome = 16,    // Welcome: the answer to hello
  exec = 17,       // Exec, with a new id
  signal = 18,     // Signal, id of the exec: to its whole process group
  resize = 19,     // Resize, id of the exec
  power_off = 20,  // no payload: TERM, grace, KILL, sync, unmount, power off
  set_time = 21,   // SetTime, id 0

  // Only on a machine's control socket, protocol/machine_socket.h. To the client:
  refused = 32,  // Refused: the request cannot be served, or not any more
  ended = 33,    // Ended: the machine has ended; the last frame for those that asked to watch
  stats = 34,    // Stats: the answer to ask_stats
  // from the client:
  keep = 48,       // no payload: the exec outlives this connection
  watch = 49,      // no payload: tell when the machine ends
  stop = 50,       // Stop: let the machine end, and watch
  kill = 51,       // no payload: end the machine now, and watch
  ask_stats = 52,  // no payload
};

/// {u32 payload length, u16 type, u16 flags (zero), u32 exec id}, little-endian, then the payload.
struct FrameHeader {
  static constexpr std::size_t size = 12;
  static constexpr std::uint32_t max_payload = 1U << 20;

  std::uint32_t length = 0;
  FrameType type{};
  std::uint32_t id = 0;

  void encode(Writer& writer) const noexcept {
    writer.put(length);
    writer.put(static_cast<std::uint16_t>(type));
    writer.put(std::uint16_t{0});
    writer.put(id);
  }

  /// Nothing when `bytes` is shorter than a header. A length above max_payload must end the connection.
  static std::optional<FrameHeader> decode(std::span<const std::byte> bytes) noexcept {
    Reader reader(bytes);
    FrameHeader header;
    header.length = reader.get<std::uint32_t>();
    header.type = static_cast<FrameType>(reader.get<std::uint16_t>());
    reader.get<std::uint16_t>();
    header.id = reader.get<std::uint32_t>();
    return reader.ok() ? std::optional(header) : std::nullopt;
  }
};

/// Encodes header and message into `buffer`; empty when it does not fit or passes max_payload.
template <typename Message>
std::span<const std::byte> encode_frame(std::span<std::byte> buffer, FrameType type, std::uint32_t id,
                                        const Message& message) noexcept {
  if (buffer.size() < FrameHeader::size) return {};
  Writer payload(buffer.subspan(FrameHeader::size));
  message.encode(payload);
  const std::size_t length = payload.written().size();
  if (!payload.ok() || length > FrameHeader::max_payload) return {};
  Writer header(buffer);
  FrameHeader{static_cast<std::uint32_t>(length), type, id}.encode(header);
  return buffer.first(FrameHeader::size + length);
}

}  // namespace minivm::protocol

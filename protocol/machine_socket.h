#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "protocol/wire.h"

namespace minivm::protocol {

/// A machine's control socket is a Unix stream socket of the process that runs the machine. Clients of the same user
/// speak the frames of protocol/frame.h on it: hello (answered by welcome), then what they ask for, without waiting in
/// between. One connection carries one exec. The client's own descriptors become the command's: they travel with the
/// exec frame as SCM_RIGHTS, and the ports of `Exec` are their positions, from 1; 0 is no stream. `started`, `exited`
/// and `refused` answer it, `signal` and `resize` go to it, and when the connection ends the command is killed, unless
/// `keep` was said.
namespace machine_socket {
/// stdin, stdout, stderr and the program to upload.
inline constexpr std::size_t max_descriptors = 4;
}  // namespace machine_socket

struct Refused {
  std::uint32_t exit_code = 0;  // what a launcher should exit with: 125, 126 or 127
  std::string_view reason;      // for people

  void encode(Writer& writer) const noexcept {
    writer.put(exit_code);
    writer.put_string(reason);
  }
  static std::optional<Refused> decode(Reader reader) noexcept {
    Refused message{reader.get<std::uint32_t>(), reader.get_string()};
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

struct Ended {
  std::uint32_t exit_code = 0;  // of the process that ran the machine

  void encode(Writer& writer) const noexcept { writer.put(exit_code); }
  static std::optional<Ended> decode(Reader reader) noexcept {
    Ended message{reader.get<std::uint32_t>()};
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

struct Stop {
  std::uint32_t deadline_ms = 0;  // then the machine is cut off

  void encode(Writer& writer) const noexcept { writer.put(deadline_ms); }
  static std::optional<Stop> decode(Reader reader) noexcept {
    Stop message{reader.get<std::uint32_t>()};
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

/// Numbers by their names.
struct Stats {
  static constexpr std::size_t max_entries = 256;

  std::span<const std::pair<std::string, std::uint64_t>> entries;

  void encode(Writer& writer) const noexcept {
    writer.put(static_cast<std::uint32_t>(entries.size()));
    for (const auto& [name, value] : entries) {
      writer.put_string(name);
      writer.put(value);
    }
  }
  /// Calls `on_entry(name, value)` for each; false when they are malformed.
  template <typename OnEntry>
  static bool decode(Reader reader, OnEntry on_entry) {
    const auto count = reader.get<std::uint32_t>();
    if (count > max_entries) return false;
    for (std::uint32_t i = 0; i < count && reader.ok(); ++i) {
      const std::string_view name = reader.get_string();
      const auto value = reader.get<std::uint64_t>();
      if (reader.ok()) on_entry(name, value);
    }
    return reader.ok();
  }
};

}  // namespace minivm::protocol

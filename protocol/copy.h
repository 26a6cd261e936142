#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "protocol/wire.h"

/// The stream of `minivm cp`: one file or tree, as records, from a sender to a receiver that answers nothing. Names
/// are single components and directories are entered and left, so no path of the sender's reaches the receiver.
namespace minivm::protocol::copy {

inline constexpr std::uint32_t version = 1;

enum class RecordType : std::uint16_t {
  begin = 1,      // Begin: first, once
  directory = 2,  // Entry: its own entries follow, up to its `leave`
  leave = 3,      // no payload: back to the directory above
  file = 4,       // Entry: its content follows, up to its `file_end`
  data = 5,       // bytes of the file
  hole = 6,       // Hole: as many zeros that take no space
  file_end = 7,   // no payload
  symlink = 8,    // Entry with `target`
  link = 9,       // Entry, a further name of the file `target`, a path below the topmost directory
  end = 10,       // no payload: all was sent. A stream that ends without it was cut off
};

/// {u32 payload length, u16 type, u16 zero}, little-endian, then the payload.
struct RecordHeader {
  static constexpr std::size_t size = 8;
  static constexpr std::uint32_t max_payload = 256 * 1024;

  std::uint32_t length = 0;
  RecordType type{};

  void encode(Writer& writer) const noexcept {
    writer.put(length);
    writer.put(static_cast<std::uint16_t>(type));
    writer.put(std::uint16_t{0});
  }
  static std::optional<RecordHeader> decode(Reader reader) noexcept {
    RecordHeader header;
    header.length = reader.get<std::uint32_t>();
    header.type = static_cast<RecordType>(reader.get<std::uint16_t>());
    reader.get<std::uint16_t>();
    return reader.ok() ? std::optional(header) : std::nullopt;
  }
};

struct Begin {
  static constexpr std::uint32_t contents = 1U << 0;  // of the topmost directory, into one that may be there already

  std::uint32_t version = copy::version;
  std::uint32_t flags = 0;

  void encode(Writer& writer) const noexcept {
    writer.put(version);
    writer.put(flags);
  }
  static std::optional<Begin> decode(Reader reader) noexcept {
    Begin message{reader.get<std::uint32_t>(), reader.get<std::uint32_t>()};
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

/// A component of a path, which leads nowhere else.
constexpr bool is_name(std::string_view text) noexcept {
  constexpr std::size_t longest = 255;  // NAME_MAX
  return !text.empty() && text.size() <= longest && text != "." && text != ".." &&
         text.find('/') == std::string_view::npos && text.find('\0') == std::string_view::npos;
}

struct Entry {
  std::uint32_t mode = 0;  // the permission bits, 07777
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint64_t modified_s = 0;  // since the epoch, in two's complement
  std::uint32_t modified_ns = 0;
  std::string_view name;
  std::string_view target;

  void encode(Writer& writer) const noexcept {
    writer.put(mode);
    writer.put(uid);
    writer.put(gid);
    writer.put(modified_s);
    writer.put(modified_ns);
    writer.put_string(name);
    writer.put_string(target);
  }
  static std::optional<Entry> decode(Reader reader) noexcept {
    Entry message;
    message.mode = reader.get<std::uint32_t>();
    message.uid = reader.get<std::uint32_t>();
    message.gid = reader.get<std::uint32_t>();
    message.modified_s = reader.get<std::uint64_t>();
    message.modified_ns = reader.get<std::uint32_t>();
    message.name = reader.get_string();
    message.target = reader.get_string();
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

struct Hole {
  std::uint64_t size = 0;

  void encode(Writer& writer) const noexcept { writer.put(size); }
  static std::optional<Hole> decode(Reader reader) noexcept {
    Hole message{reader.get<std::uint64_t>()};
    return reader.ok() ? std::optional(message) : std::nullopt;
  }
};

}  // namespace minivm::protocol::copy

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "protocol/wire.h"

namespace minivm {

class LogFile;

/// A part of what a command wrote, as output.log keeps it: this header, then `length` bytes.
struct OutputRecord {
  static constexpr std::size_t size = 8;
  static constexpr std::uint32_t max_length = 32768;
  static constexpr std::uint32_t to_stdout = 1;
  static constexpr std::uint32_t to_stderr = 2;

  std::uint32_t length = 0;
  std::uint32_t stream = 0;

  void encode(protocol::Writer& writer) const noexcept {
    writer.put(length);
    writer.put(stream);
  }
  static OutputRecord decode(protocol::Reader reader) noexcept {
    return {reader.get<std::uint32_t>(), reader.get<std::uint32_t>()};
  }
};

/// Appends one record to `log`; `bytes` are at most max_length.
void append_output(LogFile& log, std::uint32_t stream, std::span<const std::byte> bytes);

/// Calls `visit` for every record that is there whole, and returns how many bytes those took. Takes all without a
/// visit from a header on that nobody can have written.
std::size_t for_each_output(std::span<const std::byte> bytes,
                            const std::function<void(std::uint32_t stream, std::span<const std::byte>)>& visit);

}  // namespace minivm

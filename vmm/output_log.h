#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "protocol/wire.h"

namespace minivm {

/// A part of what a command wrote, as output.log keeps it: this header, then `length` bytes.
struct OutputRecord {
  static constexpr std::size_t size = 16;
  static constexpr std::uint32_t max_length = 32768;
  static constexpr std::uint32_t to_stdout = 1;
  static constexpr std::uint32_t to_stderr = 2;

  std::uint32_t length = 0;
  std::uint32_t stream = 0;
  std::uint64_t time_ns = 0;  // CLOCK_REALTIME

  void encode(protocol::Writer& writer) const noexcept {
    writer.put(length);
    writer.put(stream);
    writer.put(time_ns);
  }
};

/// Appends one record to `log`, `bytes` being at most max_length.
class LogFile;
void append_output(LogFile& log, std::uint32_t stream, std::span<const std::byte> bytes);

/// Calls `visit` for every record that is there whole, and returns how many bytes those took. Stops for good, and says
/// that all was taken, at one that nobody can have written.
std::size_t for_each_output(std::span<const std::byte> bytes,
                            const std::function<void(const OutputRecord&, std::span<const std::byte>)>& visit);

}  // namespace minivm

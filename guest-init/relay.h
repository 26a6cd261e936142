#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace minivm::guest {

/// Moves bytes one way between two non-blocking descriptors through a bounded buffer. It reads only when all that it
/// read before was written, so a reader that pauses stops the writer, and nothing is lost or piled up.
class Relay {
 public:
  static constexpr std::size_t capacity = 64 * 1024;

  enum class Flow : std::uint8_t {
    waiting,  // one of the ends has to become ready first
    yielded,  // it could go on, but others are waiting too
    ended,    // the source ended and all its bytes are written
    refused,  // the sink takes no more, for good
  };

  void start(std::span<std::byte> buffer) noexcept;
  Flow pump(int source, int sink) noexcept;
  /// From now on takes at most `limit` bytes from the source, and its first pause is its end.
  void drain(std::size_t limit) noexcept;

  /// All that was read is written.
  bool empty() const noexcept { return begin_ == end_; }
  /// The last byte that was read ended a line, or nothing was read yet.
  bool at_line_start() const noexcept { return at_line_start_; }

 private:
  enum class Taken : std::uint8_t { bytes, nothing, end };
  Taken take(int source) noexcept;
  Flow flush(int sink) noexcept;

  std::span<std::byte> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t limit_ = SIZE_MAX;
  bool draining_ = false;
  bool at_line_start_ = true;
};

/// Nobody reads from this connected socket any more, even though nothing was written to find out.
bool reader_is_gone(int socket) noexcept;

}  // namespace minivm::guest

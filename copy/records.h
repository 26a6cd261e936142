#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "protocol/copy.h"

namespace minivm::copy {

namespace wire = protocol::copy;

/// Records out of one buffer into a blocking descriptor: small ones gather, data is read straight into their place.
class RecordWriter {
 public:
  static constexpr std::size_t buffer_size = 512 * 1024;

  RecordWriter(int fd, std::span<std::byte> buffer) noexcept : fd_(fd), buffer_(buffer) {}

  /// False, here and below: nobody reads any more, and nothing needs to be written.
  template <typename Message>
  bool put(wire::RecordType type, const Message& message) noexcept {
    constexpr std::size_t longest = 8 * 1024;  // an Entry with a name and a target as long as they may be
    if (!make_room(wire::RecordHeader::size + longest)) return false;
    protocol::Writer payload(buffer_.subspan(size_ + wire::RecordHeader::size));
    message.encode(payload);
    finish(type, payload.written().size());
    return true;
  }
  bool put(wire::RecordType type) noexcept;

  /// Where to read data to; empty: nobody reads any more.
  std::span<std::byte> data_space() noexcept;
  /// So much was read.
  void put_data(std::size_t size) noexcept { finish(wire::RecordType::data, size); }

  bool flush() noexcept;

 private:
  bool make_room(std::size_t size) noexcept;
  void finish(wire::RecordType type, std::size_t payload) noexcept;

  int fd_;
  std::span<std::byte> buffer_;
  std::size_t size_ = 0;
  bool gone_ = false;
};

/// Records from a blocking descriptor, through one buffer that holds the largest.
class RecordReader {
 public:
  static constexpr std::size_t buffer_size = 512 * 1024;

  enum class State : unsigned char { open, ended, malformed, failed };
  struct Record {
    wire::RecordType type{};
    std::span<const std::byte> payload;  // valid until the next call
  };

  RecordReader(int fd, std::span<std::byte> buffer) noexcept : fd_(fd), buffer_(buffer) {}

  /// Nothing: see `state`; errno tells why reading failed.
  std::optional<Record> next() noexcept;
  State state() const noexcept { return state_; }

 private:
  bool fill(std::size_t size) noexcept;

  int fd_;
  std::span<std::byte> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  State state_ = State::open;
};

}  // namespace minivm::copy

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

namespace minivm::protocol {

/// Encodes little-endian values into a buffer of fixed size. What does not fit is left out and `ok` turns false for
/// good, so that one check at the end is enough. No allocation: host and guest use it alike.
class Writer {
 public:
  explicit Writer(std::span<std::byte> buffer) noexcept : buffer_(buffer) {}

  template <typename T>
  requires std::is_unsigned_v<T>
  void put(T value) noexcept {
    std::byte bytes[sizeof(T)];
    for (std::size_t i = 0; i < sizeof(T); ++i) bytes[i] = static_cast<std::byte>(value >> (8 * i));
    put_raw(bytes);
  }

  /// A string is its length as u32, then its bytes without a terminator.
  void put_string(std::string_view text) noexcept {
    put(static_cast<std::uint32_t>(text.size()));
    put_raw(std::as_bytes(std::span(text)));
  }

  void put_raw(std::span<const std::byte> bytes) noexcept {
    if (!ok_ || bytes.size() > buffer_.size() - size_) {
      ok_ = false;
      return;
    }
    if (!bytes.empty()) std::memcpy(buffer_.data() + size_, bytes.data(), bytes.size());
    size_ += bytes.size();
  }

  bool ok() const noexcept { return ok_; }
  std::span<std::byte> written() const noexcept { return buffer_.first(size_); }

 private:
  std::span<std::byte> buffer_;
  std::size_t size_ = 0;
  bool ok_ = true;
};

/// Decodes what a Writer wrote. Every get is bounds-checked; after the first that fails `ok` is false for good and
/// gets return zero or an empty string.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  template <typename T>
  requires std::is_unsigned_v<T> T get()
  noexcept {
    T value = 0;
    const auto bytes = take(sizeof(T));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      value = static_cast<T>(value | static_cast<T>(static_cast<T>(bytes[i]) << (8 * i)));
    }
    return value;
  }

  /// A view into the buffer that is being read.
  std::string_view get_string() noexcept {
    const auto bytes = take(get<std::uint32_t>());
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  /// What was read cannot be meant.
  void fail() noexcept { ok_ = false; }
  bool ok() const noexcept { return ok_; }
  std::size_t left() const noexcept { return bytes_.size(); }

 private:
  std::span<const std::byte> take(std::size_t size) noexcept {
    if (!ok_ || size > bytes_.size()) {
      ok_ = false;
      return {};
    }
    const auto taken = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return taken;
  }

  std::span<const std::byte> bytes_;
  bool ok_ = true;
};

}  // namespace minivm::protocol

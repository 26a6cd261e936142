#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace minivm::test {

/// A fuzzer's bytes, taken from the front. When they run out the rest is zeroes.
class FuzzInput {
 public:
  FuzzInput(const std::uint8_t* data, std::size_t size) : rest_(std::as_bytes(std::span(data, size))) {}

  bool empty() const noexcept { return rest_.empty(); }

  template <typename T>
  T take() noexcept {
    T value{};
    const auto bytes = take_bytes(sizeof value);
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  /// At most `size` bytes.
  std::span<const std::byte> take_bytes(std::size_t size) noexcept {
    const auto front = rest_.first(std::min(size, rest_.size()));
    rest_ = rest_.subspan(front.size());
    return front;
  }

 private:
  std::span<const std::byte> rest_;
};

}  // namespace minivm::test

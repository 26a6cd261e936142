#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace minivm {

/// A C string of bounded length in place: paths and messages without a heap. What does not fit is cut off.
template <std::size_t Capacity>
class Text {
 public:
  Text() noexcept { data_[0] = '\0'; }
  Text(std::string_view text) noexcept : Text() { add(text); }
  Text(const char* text) noexcept : Text(std::string_view(text)) {}

  Text& add(std::string_view text) noexcept {
    const std::size_t room = Capacity - 1 - size_;
    const std::size_t size = text.size() < room ? text.size() : room;
    cut_ = cut_ || size < text.size();
    if (size > 0) std::memcpy(data_ + size_, text.data(), size);
    size_ += size;
    data_[size_] = '\0';
    return *this;
  }

  Text& add_number(std::uint64_t number) noexcept {
    char digits[20];
    std::size_t begin = sizeof(digits);
    do {
      digits[--begin] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number > 0);
    return add({digits + begin, sizeof(digits) - begin});
  }

  const char* c_str() const noexcept { return data_; }
  std::string_view view() const noexcept { return {data_, size_}; }
  bool empty() const noexcept { return size_ == 0; }
  /// Something did not fit.
  bool cut() const noexcept { return cut_; }

 private:
  char data_[Capacity];
  std::size_t size_ = 0;
  bool cut_ = false;
};

using Path = Text<256>;

/// Splits at the first `separator`: returns what is before it and leaves in `rest` what is after it.
inline std::string_view take_field(std::string_view& rest, char separator) noexcept {
  const std::size_t end = rest.find(separator);
  const std::string_view field(rest.data(), end == rest.npos ? rest.size() : end);
  rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
  return field;
}

}  // namespace minivm

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "freestanding/fd.h"

namespace minivm::guest {

/// Opens with O_CLOEXEC added; errno tells why when the result is empty.
Fd open_file(const char* path, int flags) noexcept;

/// As much of the file as fits into `buffer`; nothing, with errno, when it cannot be read.
std::optional<std::span<std::byte>> read_file(const char* path, std::span<std::byte> buffer) noexcept;

/// The same as text, without white space at its end. Empty when it cannot be read.
std::string_view read_line(const char* path, std::span<char> buffer) noexcept;

/// The lines of a text file, without their '\n', through a small buffer. Lines longer than that are skipped.
class Lines {
 public:
  explicit Lines(const char* path) noexcept;

  /// The next line, valid until the next call; nothing at the end, and when there is no such file.
  std::optional<std::string_view> next() noexcept;

 private:
  bool refill() noexcept;

  Fd file_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool skipping_ = false;  // inside a line that is too long
  char buffer_[4096];
};

/// A decimal number and nothing else.
std::optional<std::uint32_t> parse_number(std::string_view text) noexcept;

}  // namespace minivm::guest

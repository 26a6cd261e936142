#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace minivm {

/// The last part of what the guest's serial console said: for error messages, and to tell a panic from a reboot.
/// Not synchronised.
class ConsoleLog {
 public:
  static constexpr std::size_t capacity = std::size_t{64} << 10;

  void append(std::span<const std::byte> bytes);

  /// The last `count` lines that are not empty, without control characters.
  std::vector<std::string> last_lines(std::size_t count) const;
  /// Whether the kernel said that it panicked; the words are the kernel's, panic() in kernel/panic.c.
  bool panicked() const noexcept { return panicked_; }

 private:
  void look_for_panic(std::span<const std::byte> added);

  std::string text_;
  std::size_t line_start_ = 0;  // of the line that is still being written
  bool panicked_ = false;
};

}  // namespace minivm

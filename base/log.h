#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstdint>
#include <string_view>
#include <utility>

namespace minivm::log {

/// What reaches stderr: warnings always, info with -v, debug with -vv.
enum class Level : std::uint8_t { warning, info, debug };

/// Process-wide; set once before threads start.
void set_level(Level level) noexcept;
bool enabled(Level level) noexcept;

/// Writes "minivm: message\n" to stderr in one write(2), so that lines of threads never mix. Any thread.
void write_line(std::string_view message) noexcept;

template <typename... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write_line(fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::info)) write_line(fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::debug)) write_line(fmt::format(format, std::forward<Args>(args)...));
}

/// Counts the faults of one guest-driven source and lets only the first few through, so that a guest cannot flood
/// the host's stderr.
class FaultLimit {
 public:
  static constexpr std::uint32_t shown = 10;

  template <typename... Args>
  void warning(fmt::format_string<Args...> format, Args&&... args) noexcept {
    const std::uint32_t count = count_.fetch_add(1, std::memory_order_relaxed);
    if (count >= shown) return;
    try {
      write_line(fmt::format(format, std::forward<Args>(args)...));
      if (count + 1 == shown) write_line("further faults of this kind are not shown");
    } catch (...) {  // out of memory: the message is lost, the guest's fault is handled all the same
    }
  }

  std::uint32_t count() const noexcept { return count_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint32_t> count_{0};
};

}  // namespace minivm::log

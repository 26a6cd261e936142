#include "base/log.h"

#include <sys/uio.h>
#include <unistd.h>

#include <array>

namespace minivm::log {
namespace {

std::atomic<Level> current_level{Level::warning};

}  // namespace

void set_level(Level level) noexcept { current_level.store(level, std::memory_order_relaxed); }

bool enabled(Level level) noexcept { return level <= current_level.load(std::memory_order_relaxed); }

void write_line(std::string_view message) noexcept {
  static constexpr std::string_view prefix = "minivm: ";
  static constexpr std::string_view end = "\n";
  const auto part = [](std::string_view text) { return iovec{const_cast<char*>(text.data()), text.size()}; };
  const std::array parts{part(prefix), part(message), part(end)};
  [[maybe_unused]] const auto written = ::writev(STDERR_FILENO, parts.data(), parts.size());
}

}  // namespace minivm::log

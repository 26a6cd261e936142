#include "cli/units.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <stdexcept>
#include <utility>

namespace minivm {
namespace {

template <std::size_t N>
double parse(std::string_view text, const std::array<std::pair<std::string_view, double>, N>& units,
             std::string_view example) {
  double value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error == std::errc() && value >= 0) {
    const std::string_view unit(rest, static_cast<std::size_t>(text.data() + text.size() - rest));
    for (const auto& [name, factor] : units) {
      if (name == unit) return value * factor;
    }
  }
  throw std::invalid_argument(fmt::format("{}: not {}", text, example));
}

constexpr double mebi = 1 << 20;
constexpr std::array<std::pair<std::string_view, double>, 10> sizes{{{"", mebi},
                                                                     {"M", mebi},
                                                                     {"m", mebi},
                                                                     {"MiB", mebi},
                                                                     {"G", mebi * 1024},
                                                                     {"g", mebi * 1024},
                                                                     {"GiB", mebi * 1024},
                                                                     {"T", mebi * 1024 * 1024},
                                                                     {"t", mebi * 1024 * 1024},
                                                                     {"TiB", mebi * 1024 * 1024}}};
constexpr std::array<std::pair<std::string_view, double>, 5> durations{
    {{"", 1000}, {"s", 1000}, {"ms", 1}, {"m", 60'000}, {"h", 3'600'000}}};
constexpr double max_milliseconds = 1e12;

}  // namespace

std::uint64_t parse_size(std::string_view text) {
  const double bytes = parse(text, sizes, "a size such as 512M or 2G");
  if (bytes > 1e18) throw std::invalid_argument(fmt::format("{}: too large", text));
  return static_cast<std::uint64_t>(bytes);
}

std::chrono::milliseconds parse_duration(std::string_view text) {
  const double milliseconds = parse(text, durations, "a duration such as 30s or 5m");
  if (milliseconds > max_milliseconds) throw std::invalid_argument(fmt::format("{}: too long", text));
  return std::chrono::milliseconds(static_cast<std::int64_t>(milliseconds));
}

}  // namespace minivm

#include "cli/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>

namespace minivm {
namespace {

/// The number of decimal digits, with or without a fraction, that `text` begins with, and how long it is. Not
/// std::from_chars: for its rounding modes that links libm, which takes the dynamic linker a tenth of the start-up.
std::pair<double, std::size_t> leading_decimal(std::string_view text) {
  const std::size_t length = std::min(text.find_first_not_of("0123456789."), text.size());
  double value = 0;
  double unit = 0;  // that of the last digit, once the point was seen
  for (const char c : text.substr(0, length)) {
    if (c == '.' && unit > 0) return {0, 0};
    if (c == '.') {
      unit = 1;
    } else if (unit == 0) {
      value = value * 10 + (c - '0');
    } else {
      unit /= 10;
      value += unit * (c - '0');
    }
  }
  return {value, text.starts_with('.') ? 0 : length};
}

template <std::size_t N>
double parse(std::string_view text, const std::array<std::pair<std::string_view, double>, N>& units,
             std::string_view example) {
  const auto [value, length] = leading_decimal(text);
  for (const auto& [name, factor] : units) {
    if (length > 0 && name == text.substr(length)) return value * factor;
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

#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

namespace minivm {

/// "512M", "2G", "1T", "512MiB"; a plain number is MiB. Throws std::invalid_argument saying what is wrong.
std::uint64_t parse_size(std::string_view text);

/// "30", "30s", "500ms", "5m", "1h", "1.5s"; a plain number is seconds. Throws std::invalid_argument.
std::chrono::milliseconds parse_duration(std::string_view text);

}  // namespace minivm

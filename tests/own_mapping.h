#pragma once

#include <cstdint>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace minivm::test {

/// What the kernel says of a mapping of this process (proc(5), smaps).
struct OwnMapping {
  std::uint64_t resident_kib = 0;
  bool small_pages_only = false;  // "nh": never huge ones
};

/// Of the mapping that `address` lies in.
inline std::optional<OwnMapping> own_mapping(const void* address) {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream smaps("/proc/self/smaps");
  std::optional<OwnMapping> found;
  for (std::string line; std::getline(smaps, line);) {
    std::istringstream words(line);
    std::string name;
    words >> name;
    if (name.back() != ':') {
      if (found) break;
      const std::uint64_t start = std::stoull(name, nullptr, 16);
      const std::uint64_t end = std::stoull(name.substr(name.find('-') + 1), nullptr, 16);
      if (start <= wanted && wanted < end) found.emplace();
    } else if (found && name == "Rss:") {
      words >> found->resident_kib;
    } else if (found && name == "VmFlags:") {
      found->small_pages_only = line.find(" nh") != std::string::npos;
    }
  }
  return found;
}

}  // namespace minivm::test

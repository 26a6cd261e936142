#include "cli/disk_argument.h"

#include <fmt/format.h>

#include <charconv>
#include <stdexcept>
#include <string_view>

#include "cli/units.h"

namespace minivm {
namespace {

std::uint64_t parse_count(std::string_view text) {
  std::uint64_t count = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), count);
  if (error != std::errc{} || end != text.end()) throw std::invalid_argument(fmt::format("{}: not a number", text));
  return count;
}

/// Nobody who writes a limit means none.
std::uint64_t limit(std::string_view name, std::uint64_t value) {
  if (value == 0) throw std::invalid_argument(fmt::format("{}=0: nothing could pass", name));
  return value;
}

/// False when `word` is no setting.
bool apply(std::string_view word, Disk& disk) {
  if (word == "direct") {
    disk.direct = true;
  } else if (word.starts_with("iops=")) {
    disk.operations_per_second = limit("iops", parse_count(word.substr(5)));
  } else if (word.starts_with("bps=")) {
    disk.bytes_per_second = limit("bps", parse_size(word.substr(4)));
  } else {
    return false;
  }
  return true;
}

}  // namespace

DiskArgument parse_disk(const std::string& text) {
  DiskArgument result;
  std::string_view rest = text;
  for (auto comma = rest.rfind(','); comma != std::string_view::npos && comma > 0; comma = rest.rfind(',')) {
    if (!apply(rest.substr(comma + 1), result.disk)) break;
    rest = rest.substr(0, comma);
  }
  const bool has_access = rest.size() > 3 && (rest.ends_with(":ro") || rest.ends_with(":rw"));
  if (has_access) {
    result.access = rest.ends_with(":ro") ? DiskAccess::read_only : DiskAccess::read_write;
    rest.remove_suffix(3);
  }
  result.disk.path = rest;
  result.disk.read_only = result.access == DiskAccess::read_only;
  return result;
}

}  // namespace minivm

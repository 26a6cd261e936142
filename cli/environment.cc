#include "cli/environment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string_view>

namespace minivm {
namespace {

constexpr std::string_view blanks = " \t";
constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

std::string_view name_of(std::string_view entry) { return entry.substr(0, entry.find('=')); }

}  // namespace

void Environment::set(const std::string& text) {
  if (text.empty() || text.starts_with('=')) throw std::invalid_argument(fmt::format("'{}': no name before =", text));
  std::string entry = text;
  if (!text.contains('=')) {
    const char* const value = std::getenv(text.c_str());
    if (value == nullptr) return;
    entry += fmt::format("={}", value);
  }
  const auto same =
      std::ranges::find_if(entries_, [&](const std::string& each) { return name_of(each) == name_of(entry); });
  if (same != entries_.end()) {
    *same = std::move(entry);
  } else {
    entries_.push_back(std::move(entry));
  }
}

void Environment::read(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::invalid_argument(fmt::format("{}: {}", path, std::strerror(errno)));
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (number == 1 && line.starts_with(byte_order_mark)) line.erase(0, byte_order_mark.size());
    if (line.ends_with('\r')) line.pop_back();
    line.erase(0, std::min(line.find_first_not_of(blanks), line.size()));
    if (line.empty() || line.starts_with('#')) continue;
    if (name_of(line).empty() || name_of(line).find_first_of(blanks) != std::string_view::npos) {
      throw std::invalid_argument(fmt::format("{}:{}: '{}' is no name of a variable", path, number, name_of(line)));
    }
    set(line);
  }
  if (file.bad()) throw std::invalid_argument(fmt::format("{}: {}", path, std::strerror(errno)));
}

bool Environment::names(const std::string& entry) const {
  return std::ranges::any_of(entries_, [&](const std::string& each) { return name_of(each) == name_of(entry); });
}

std::vector<std::string> Environment::over(const Environment& files) const {
  std::vector<std::string> all;
  std::ranges::copy_if(files.entries_, std::back_inserter(all), [&](const std::string& each) { return !names(each); });
  all.insert(all.end(), entries_.begin(), entries_.end());
  return all;
}

}  // namespace minivm

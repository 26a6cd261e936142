#include "vmm/console_log.h"

#include <algorithm>
#include <string_view>

namespace minivm {

void ConsoleLog::append(std::span<const std::byte> bytes) {
  if (bytes.size() > capacity) bytes = bytes.last(capacity);
  const std::string_view added(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  // Cut by halves, so that a byte is moved once in a while and not each time.
  if (text_.size() + added.size() > capacity) {
    const std::size_t cut = std::min(text_.size(), text_.size() + added.size() - capacity / 2);
    text_.erase(0, cut);
    line_start_ -= std::min(line_start_, cut);
  }
  text_ += added;
  look_for_panic(bytes);
}

void ConsoleLog::look_for_panic(std::span<const std::byte> added) {
  static constexpr std::string_view mark = "Kernel panic - not syncing";
  if (panicked_ || std::ranges::find(added, std::byte{'\n'}) == added.end()) return;
  panicked_ = std::string_view(text_).substr(line_start_).find(mark) != std::string_view::npos;
  line_start_ = text_.rfind('\n') + 1;
}

std::vector<std::string> ConsoleLog::last_lines(std::size_t count) const {
  std::vector<std::string> lines;
  std::string_view rest = text_;
  while (!rest.empty() && lines.size() < count) {
    const std::size_t newline = rest.rfind('\n');
    std::string line(rest.substr(newline == std::string_view::npos ? 0 : newline + 1));
    std::erase_if(line, [](char c) { return static_cast<unsigned char>(c) < ' ' && c != '\t'; });
    if (line.find_first_not_of(" \t") != std::string::npos) lines.push_back(std::move(line));
    rest = newline == std::string_view::npos ? std::string_view{} : rest.substr(0, newline);
  }
  std::ranges::reverse(lines);
  return lines;
}

}  // namespace minivm

#include "guest-init/file.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

namespace minivm::guest {

Fd open_file(const char* path, int flags) noexcept { return Fd(open(path, flags | O_CLOEXEC)); }

std::optional<std::span<std::byte>> read_file(const char* path, std::span<std::byte> buffer) noexcept {
  const Fd file = open_file(path, O_RDONLY);
  if (!file) return std::nullopt;
  std::size_t size = 0;
  while (size < buffer.size()) {
    const ssize_t count = read(file.get(), buffer.data() + size, buffer.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::nullopt;
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
  }
  return buffer.first(size);
}

std::string_view read_line(const char* path, std::span<char> buffer) noexcept {
  const auto bytes = read_file(path, std::as_writable_bytes(buffer));
  std::string_view text(buffer.data(), bytes ? bytes->size() : 0);
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  return text;
}

Lines::Lines(const char* path) noexcept : file_(open_file(path, O_RDONLY)) {}

bool Lines::refill() noexcept {
  if (!file_) return false;
  if (begin_ == 0 && end_ == sizeof(buffer_)) {  // no '\n' in all of it
    skipping_ = true;
    end_ = 0;
  }
  std::memmove(buffer_, buffer_ + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  const ssize_t count = read(file_.get(), buffer_ + end_, sizeof(buffer_) - end_);
  if (count > 0) end_ += static_cast<std::size_t>(count);
  return count > 0;
}

std::optional<std::string_view> Lines::next() noexcept {
  for (;;) {
    const std::string_view pending(buffer_ + begin_, end_ - begin_);
    const std::size_t newline = pending.find('\n');
    if (newline != pending.npos) {
      begin_ += newline + 1;
      if (!skipping_) return std::string_view(pending.data(), newline);
      skipping_ = false;
    } else if (!refill()) {
      // The last line may lack its '\n'.
      const std::string_view last(buffer_ + begin_, end_ - begin_);
      begin_ = end_;
      if (last.empty() || skipping_) return std::nullopt;
      return last;
    }
  }
}

std::optional<std::uint32_t> parse_number(std::string_view text) noexcept {
  if (text.empty() || text.size() > 10) return std::nullopt;
  std::uint64_t number = 0;
  for (const char digit : text) {
    if (digit < '0' || digit > '9') return std::nullopt;
    number = number * 10 + static_cast<std::uint64_t>(digit - '0');
  }
  if (number > UINT32_MAX) return std::nullopt;
  return static_cast<std::uint32_t>(number);
}

}  // namespace minivm::guest

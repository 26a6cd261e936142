#include "guest-init/oom_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "freestanding/text.h"
#include "guest-init/file.h"

namespace minivm::guest {
namespace {

constexpr int records_per_refresh = 4096;

}  // namespace

OomLog::OomLog() noexcept : log_(open_file("/dev/kmsg", O_RDONLY | O_NONBLOCK)) {
  if (log_) lseek(log_.get(), 0, SEEK_END);
}

void OomLog::forget(pid_t pid) noexcept {
  refresh();
  std::replace(victims_.begin(), victims_.end(), pid, pid_t{0});
}

bool OomLog::killed(pid_t pid) noexcept {
  refresh();
  return std::find(victims_.begin(), victims_.end(), pid) != victims_.end();
}

void OomLog::refresh() noexcept {
  // One record a read; EPIPE: some were overwritten; EINVAL: one was longer than this buffer and is skipped.
  char record[1024];
  for (int i = 0; log_ && i < records_per_refresh; ++i) {
    const ssize_t size = read(log_.get(), record, sizeof(record));
    if (size < 0 && (errno == EPIPE || errno == EINVAL)) continue;
    if (size <= 0) return;
    if (const pid_t pid = oom_victim({record, static_cast<std::size_t>(size)})) {
      victims_[next_++ % victims_.size()] = pid;
    }
  }
}

pid_t oom_victim(std::string_view message) noexcept {
  // "Out of memory: Killed process 123 (name) ...", "Memory cgroup out of memory: Killed process 123 (name) ..."
  constexpr std::string_view words = "ut of memory: Killed process ";
  const std::size_t found = message.find(words);
  if (found == message.npos) return 0;
  message.remove_prefix(found + words.size());
  const auto pid = parse_number(take_field(message, ' '));
  return pid ? static_cast<pid_t>(*pid) : 0;
}

}  // namespace minivm::guest

#include "vmm/state_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <thread>

#include "vmm/host_paths.h"

namespace minivm {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t longest_name = 63;
/// Others hold the lock for some milliseconds; one that was stopped meanwhile must not stop all.
constexpr auto lock_deadline = 10s;
constexpr auto lock_pause = 2ms;
/// No file of ours is as large: what is, was not written here.
constexpr std::size_t largest_file = std::size_t{1} << 20;

bool is_letter_or_digit(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_own_directory(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == ::geteuid();
}

/// Root may look after the machines of others.
void require_private(int fd, const std::string& path) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) throw_errno(path);
  if (status.st_uid != ::geteuid() && ::geteuid() != 0) {
    throw std::runtime_error(fmt::format("state directory {}: belongs to user {}", path, status.st_uid));
  }
  if ((status.st_mode & 077) != 0) {
    throw std::runtime_error(
        fmt::format("state directory {}: open to other users (mode {:o})", path, status.st_mode & 0777));
  }
}

}  // namespace

std::string StateDirectory::default_path() {
  if (const std::string xdg = host_paths::environment("XDG_RUNTIME_DIR"); !xdg.empty()) return xdg + "/minivm";
  const std::string run = fmt::format("/run/user/{}", ::geteuid());
  if (is_own_directory(run)) return run + "/minivm";
  return fmt::format("/tmp/minivm-{}", ::geteuid());
}

StateDirectory::StateDirectory(std::string path) : path_(std::move(path)) {
  if (::mkdir(path_.c_str(), 0700) != 0 && errno != EEXIST) throw_errno("state directory " + path_);
  fd_ = UniqueFd(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd_) throw_errno("state directory " + path_);
  require_private(fd_.get(), path_);
}

StateDirectory::Lock StateDirectory::lock() const {
  // A description of its own: flock does not tell two holders of one apart.
  UniqueFd fd(::openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno("state directory " + path_);
  for (const auto end = std::chrono::steady_clock::now() + lock_deadline;;) {
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return Lock(std::move(fd));
    if (errno != EWOULDBLOCK && errno != EINTR) throw_errno("state directory " + path_);
    if (std::chrono::steady_clock::now() > end) {
      throw std::runtime_error(fmt::format("state directory {}: another process keeps it locked", path_));
    }
    std::this_thread::sleep_for(lock_pause);
  }
}

std::vector<std::string> StateDirectory::names() const {
  std::vector<std::string> names;
  const int copy = ::openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(copy < 0 ? nullptr : ::fdopendir(copy), ::closedir);
  if (!directory) throw_errno("state directory " + path_);
  while (const dirent* entry = ::readdir(directory.get())) {
    if (is_machine_name(entry->d_name)) names.emplace_back(entry->d_name);
  }
  std::ranges::sort(names);
  return names;
}

bool is_machine_name(std::string_view name) noexcept {
  if (name.empty() || name.size() > longest_name || !is_letter_or_digit(name.front())) return false;
  return std::ranges::all_of(name, [](char c) { return is_letter_or_digit(c) || c == '_' || c == '.' || c == '-'; });
}

std::string read_state_file(int directory, const char* name) {
  const UniqueFd fd(::openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  std::string text;
  std::array<char, 4096> part;
  while (fd && text.size() < largest_file) {
    const ssize_t size = ::read(fd.get(), part.data(), part.size());
    if (size <= 0) break;
    text.append(part.data(), static_cast<std::size_t>(size));
  }
  return text;
}

void write_state_file(int directory, const char* name, std::string_view text) {
  const std::string fresh = std::string(name) + ".new";
  const UniqueFd fd(::openat(directory, fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) throw_errno(name);
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) throw_errno(name);
  if (::renameat(directory, fresh.c_str(), directory, name) != 0) throw_errno(name);
}

}  // namespace minivm

#include "guest-init/modules.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "guest-init/file.h"
#include "guest-init/report.h"
#include "protocol/guest_config.h"

namespace minivm::guest {
namespace {

constexpr std::size_t max_modules = 256;

using Name = Text<96>;

/// Names in the order in which the file system has them; more than fit is a failure, not a silent loss.
Outcome list_modules(const char* directory, std::array<Name, max_modules>& names, std::size_t& count) noexcept {
  DIR* const stream = opendir(directory);
  if (stream == nullptr) return errno == ENOENT ? Outcome{} : Failure{"open", directory, errno};
  Outcome failure;
  while (const dirent* entry = readdir(stream)) {
    if (entry->d_name[0] == '.') continue;
    Name name(entry->d_name);
    if (count == max_modules || name.cut()) failure = Failure{"list", directory, E2BIG};
    if (!failure) names[count++] = name;
  }
  closedir(stream);
  return failure;
}

Outcome load(const Path& path) noexcept {
  const Fd file = open_file(path.c_str(), O_RDONLY);
  if (!file) return Failure{"open module", path.view(), errno};
  if (syscall(SYS_finit_module, file.get(), "", 0) != 0 && errno != EEXIST) {
    if (errno != ENOENT) return Failure{"load module", path.view(), errno};
    // The kernel's way to say that a symbol is missing; told as an errno it would read as a missing file.
    return Failure{"load module", Text<256>(path.view()).add(": it needs another one first"), 0};
  }
  tell("loaded", path.view());
  return {};
}

}  // namespace

Outcome load_modules() noexcept {
  const Path directory = Path("/").add(protocol::initramfs::modules);
  static std::array<Name, max_modules> names;  // too large for a stack
  std::size_t count = 0;
  if (auto failure = list_modules(directory.c_str(), names, count)) return failure;
  std::sort(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(count),
            [](const Name& a, const Name& b) noexcept { return a.view() < b.view(); });
  for (std::size_t i = 0; i < count; ++i) {
    const Path path = Path(directory).add("/").add(names[i].view());
    if (auto failure = load(path)) return failure;
    unlink(path.c_str());
  }
  return {};
}

}  // namespace minivm::guest

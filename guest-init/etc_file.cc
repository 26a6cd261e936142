#include "guest-init/etc_file.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "guest-init/file.h"
#include "guest-init/mounts.h"
#include "guest-init/report.h"

namespace minivm::guest {
namespace {

/// Returns 0 or errno. The file must not be there yet.
int write_new(const Path& path, std::string_view content) noexcept {
  const Fd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!file) return errno;
  return write(file.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()) ? 0 : errno;
}

/// Where a link leads when it leads into /run; empty otherwise. /etc/../run and ../run are the same there.
Path target_in_run(const Path& link) noexcept {
  char buffer[200];
  const ssize_t size = readlink(link.c_str(), buffer, sizeof(buffer));
  std::string_view target(buffer, size > 0 ? static_cast<std::size_t>(size) : 0);
  if (target.starts_with("../")) target.remove_prefix(2);
  const bool inside = target.starts_with("/run/") && !target.contains("/../");
  return inside ? Path(target) : Path();
}

int write_in_run(const Path& path, std::string_view content) noexcept {
  for (std::size_t slash = path.view().find('/', 5); slash != std::string_view::npos;
       slash = path.view().find('/', slash + 1)) {
    if (!ensure_directory(Path(path.view().substr(0, slash)).c_str())) return errno;
  }
  const int error = write_new(path, content);
  return error == EEXIST ? 0 : error;
}

/// A mount over the file itself, whatever its name comes to mean.
int cover_file(const Path& path, std::string_view name, std::string_view content) noexcept {
  const Path source = Path("/run/minivm/").add(name);
  if (!ensure_directory("/run/minivm")) return errno;
  if (const int error = write_new(source, content)) return error;
  const Fd target(open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!target) return errno;
  const Path opened = Path("/proc/self/fd/").add_number(static_cast<std::uint64_t>(target.get()));
  return mount(source.c_str(), opened.c_str(), nullptr, MS_BIND, nullptr) == 0 ? 0 : errno;
}

int provide(const Path& path, std::string_view name, std::string_view content, bool cover) noexcept {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) return ensure_directory("/etc") ? write_new(path, content) : errno;
  if (S_ISREG(status.st_mode)) return cover ? cover_file(path, name, content) : 0;
  if (!S_ISLNK(status.st_mode)) return EINVAL;
  const Path target = target_in_run(path);
  return target.empty() ? 0 : write_in_run(target, content);
}

}  // namespace

void provide_etc_file(std::string_view name, std::string_view content, bool cover) noexcept {
  const Path path = Path("/etc/").add(name);
  if (const int error = provide(path, name, content, cover)) {
    tell("skipped", Text<256>(path.view()).add(": ").add(strerror(error)).view());
  }
}

}  // namespace minivm::guest

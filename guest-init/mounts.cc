#include "guest-init/mounts.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "guest-init/report.h"

namespace minivm::guest {
namespace {

struct Mount {
  const char* type;
  const char* target;
  unsigned long flags;
  const char* options;
};

constexpr Mount kernel_mounts[] = {
    {"devtmpfs", "/dev", MS_NOSUID, "mode=755"},
    {"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr},
    {"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr},
};

constexpr Mount program_mounts[] = {
    // Group 5 is tty by convention; 666 lets every user open a terminal.
    {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=620,gid=5,ptmxmode=666"},
    {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"},
    {"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755"},
};

constexpr Mount own_init_mounts[] = {
    {"cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr},
};

constexpr Mount temporary = {"tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777"};

struct Link {
  const char* target;
  const char* path;
};

constexpr Link device_links[] = {
    {"/proc/self/fd", "/dev/fd"},
    {"/proc/self/fd/0", "/dev/stdin"},
    {"/proc/self/fd/1", "/dev/stdout"},
    {"/proc/self/fd/2", "/dev/stderr"},
};

/// Returns 0 or errno. EBUSY: it is mounted there already.
int mount_one(const Mount& wanted) noexcept {
  if (!ensure_directory(wanted.target)) return errno;
  if (mount(wanted.type, wanted.target, wanted.type, wanted.flags, wanted.options) == 0 || errno == EBUSY) return 0;
  return errno;
}

void tell_skipped(std::string_view target, int error) noexcept {
  tell("skipped", Text<256>(target).add(": ").add(strerror(error)).view());
}

void mount_if_possible(const Mount& wanted) noexcept {
  if (const int error = mount_one(wanted)) tell_skipped(wanted.target, error);
}

}  // namespace

bool ensure_directory(const char* path, unsigned mode) noexcept {
  struct stat status {};
  // Asked first: a read-only file system answers mkdir with EROFS even when the directory is there.
  if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) return true;
  return mkdir(path, mode) == 0;
}

Outcome mount_kernel_filesystems() noexcept {
  for (const Mount& wanted : kernel_mounts) {
    if (const int error = mount_one(wanted)) return Failure{"mount", wanted.target, error};
  }
  return {};
}

void move_kernel_filesystems(const char* root) noexcept {
  for (const Mount& mounted : kernel_mounts) {
    Path target(root);
    target.add(mounted.target);
    if (!ensure_directory(target.c_str()) || mount(mounted.target, target.c_str(), nullptr, MS_MOVE, nullptr) != 0) {
      tell_skipped(target.view(), errno);
    }
  }
}

void mount_for_programs(bool init_is_ours) noexcept {
  for (const Mount& wanted : program_mounts) mount_if_possible(wanted);
  for (const Link& link : device_links) {
    if (symlink(link.target, link.path) != 0 && errno != EEXIST) tell_skipped(link.path, errno);
  }
  if (!init_is_ours) return;
  for (const Mount& wanted : own_init_mounts) mount_if_possible(wanted);
  if (access("/tmp", W_OK) != 0) mount_if_possible(temporary);
}

void unmount_kernel_filesystems() noexcept {
  for (const Mount& mounted : kernel_mounts) umount2(mounted.target, MNT_DETACH);
}

}  // namespace minivm::guest

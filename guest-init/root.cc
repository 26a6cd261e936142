#include "guest-init/root.h"

#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>

#include "guest-init/disk.h"
#include "guest-init/links.h"
#include "guest-init/mounts.h"
#include "guest-init/report.h"

namespace minivm::guest {
namespace {

using protocol::GuestConfig;

constexpr const char* disk_point = "/minivm/disk";
constexpr const char* layer_point = "/minivm/layer";
constexpr const char* merged_point = "/minivm/merged";

Outcome mount_at(const char* type, const char* target, unsigned long flags, const char* options) noexcept {
  if (ensure_directory(target) && mount(type, target, type, flags, options) == 0) return {};
  return Failure{"mount", Text<256>(type).add(" at ").add(target).view(), errno};
}

/// A throw-away layer in RAM above the disk.
Outcome mount_overlay() noexcept {
  if (auto failure = mount_at("tmpfs", layer_point, 0, "mode=755")) return failure;
  for (const char* directory : {"/minivm/layer/upper", "/minivm/layer/work"}) {
    if (!ensure_directory(directory)) return Failure{"make", directory, errno};
  }
  return mount_at("overlay", merged_point, 0,
                  "lowerdir=/minivm/disk,upperdir=/minivm/layer/upper,workdir=/minivm/layer/work");
}

/// The tree of the initramfs becomes a mount of its own, for only a mount can be moved.
Outcome mount_tree(const char* tree, bool read_only) noexcept {
  if (mount(tree, tree, nullptr, MS_BIND | MS_REC, nullptr) != 0) return Failure{"mount", tree, errno};
  if (read_only && mount(nullptr, tree, nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) != 0) {
    return Failure{"make read-only", tree, errno};
  }
  return {};
}

/// pivot_root(2) does not work on the initramfs, so the new root is moved over the old.
Outcome switch_to(const char* root) noexcept {
  move_kernel_filesystems(root);
  if (chdir(root) != 0 || mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 || chroot(".") != 0 || chdir("/") != 0) {
    return Failure{"change the root to", root, errno};
  }
  tell("changed the root to", root);
  return {};
}

Outcome enter_disk(const GuestConfig& config) noexcept {
  const bool overlay = (config.flags & GuestConfig::overlay) != 0;
  const bool read_only = overlay || (config.flags & GuestConfig::read_only) != 0;
  if (!ensure_directory(disk_point)) return Failure{"make", disk_point, errno};
  if (auto failure = mount_disk({config.root_disk, config.filesystems, read_only}, disk_point)) return failure;
  if (!overlay) return switch_to(disk_point);
  if (auto failure = mount_overlay()) return failure;
  return switch_to(merged_point);
}

Outcome enter_tree(const GuestConfig& config) noexcept {
  const Path tree = Path("/").add(protocol::initramfs::root);
  // Links and missing mount points can only be made while it is writable.
  if (auto failure = make_links()) return failure;
  for (const char* point : {"/dev", "/proc", "/sys"}) ensure_directory(Path(tree).add(point).c_str());
  if (auto failure = mount_tree(tree.c_str(), (config.flags & GuestConfig::read_only) != 0)) return failure;
  return switch_to(tree.c_str());
}

}  // namespace

Outcome enter_root(const GuestConfig& config) noexcept {
  switch (config.root) {
    case GuestConfig::Root::initramfs:
      return enter_tree(config);
    case GuestConfig::Root::disk:
      return enter_disk(config);
    case GuestConfig::Root::user:
      return {};
  }
  return Failure{"enter", "a root of unknown kind", EINVAL};
}

}  // namespace minivm::guest

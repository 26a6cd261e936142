#include "guest-init/disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <cerrno>

#include "guest-init/clock.h"
#include "guest-init/file.h"
#include "guest-init/report.h"

namespace minivm::guest {
namespace {

constexpr std::uint32_t appear_ms = 5'000;

/// "/dev/vda" of the disk with this serial number; empty when there is none.
Path find_disk(std::string_view serial) noexcept {
  Path device;
  DIR* const disks = opendir("/sys/block");
  if (disks == nullptr) return device;
  while (const dirent* entry = readdir(disks)) {
    const std::string_view name(entry->d_name);
    if (!name.starts_with("vd")) continue;
    char buffer[64];
    const Path attribute = Path("/sys/block/").add(name).add("/serial");
    if (read_line(attribute.c_str(), buffer) == serial) device = Path("/dev/").add(name);
  }
  closedir(disks);
  return device;
}

bool is_write_protected(const char* device) noexcept {
  int read_only = 0;
  const Fd disk = open_file(device, O_RDONLY);
  return disk && ioctl(disk.get(), BLKROGET, &read_only) == 0 && read_only != 0;
}

/// Tries one type after the other and remembers what the most telling refusal was.
class Prober {
 public:
  Prober(const Path& device, const char* target, bool read_only) noexcept
      : device_(device), target_(target), read_only_(read_only), write_protected_(is_write_protected(device.c_str())) {}

  bool try_type(std::string_view name) noexcept {
    const Text<32> type(name);
    // A journal that needs recovery cannot be replayed on a device that takes no writes.
    const bool skip_journal = name == "ext4" && read_only_ && write_protected_;
    tried_.add(tried_.empty() ? "" : ", ").add(name);
    if (mount(device_.c_str(), target_, type.c_str(), read_only_ ? MS_RDONLY : 0, skip_journal ? "noload" : nullptr) ==
        0) {
      tell("mounted", Text<256>(device_.view()).add(" as ").add(name).view());
      return true;
    }
    // EINVAL: it is not of this type; ENODEV: the kernel does not know the type.
    if (error_ == 0 || (errno != EINVAL && errno != ENODEV)) error_ = errno;
    return false;
  }

  bool try_each(std::string_view names) noexcept {
    while (!names.empty()) {
      const auto name = take_field(names, ',');
      if (!name.empty() && try_type(name)) return true;
    }
    return false;
  }

  bool try_all_of_kernel() noexcept {
    // Its kernel message for a foreign disk is the quietest, and it is the likeliest.
    if (try_type("ext4")) return true;
    Lines lines("/proc/filesystems");
    while (const auto line = lines.next()) {
      std::string_view rest = *line;
      if (!take_field(rest, '\t').empty() || rest == "ext4") continue;  // "nodev" comes before the tab
      if (try_type(rest)) return true;
    }
    return false;
  }

  Failure failure() const noexcept {
    Failure failed{"mount", device_.view(), error_};
    failed.object.add(" (tried ").add(tried_.view()).add(")");
    return failed;
  }

 private:
  const Path& device_;
  const char* target_;
  bool read_only_;
  bool write_protected_;
  Text<160> tried_;
  int error_ = 0;
};

}  // namespace

Outcome mount_disk(const DiskMount& disk, const char* target) noexcept {
  Patience patience(appear_ms);
  Path device = find_disk(disk.serial);
  while (device.empty()) {
    if (!patience.wait()) return Failure{"find disk", disk.serial, ENODEV};
    device = find_disk(disk.serial);
  }
  Prober prober(device, target, disk.read_only);
  const bool mounted = disk.filesystems.empty() ? prober.try_all_of_kernel() : prober.try_each(disk.filesystems);
  if (!mounted) return prober.failure();
  return {};
}

}  // namespace minivm::guest

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "boot/initramfs.h"
#include "boot/platform.h"
#include "minivm/config.h"

namespace minivm {

/// The serial number (VirtIO 1.2, 5.2.6) by which PID 1 finds the root disk.
inline constexpr std::string_view root_disk_serial = "root";

/// The initramfs of this guest: PID 1, its configuration, the modules in load order, the default root or the user's
/// initrd. Throws when a host file cannot be had.
boot::Initramfs make_initramfs(const MachineConfig& config, const std::vector<std::string>& module_files,
                               const std::string& root_filesystem);

/// How the kernel finds its devices, as far as its command line is concerned.
struct Announcement {
  boot::Discovery discovery = boot::Discovery::acpi;
  boot::Transport transport = boot::Transport::mmio;
  bool on_console_port = false;  // the console is virtio-console's, else the serial port
};

/// The kernel command line without device discovery: what makes boots fast and ends clean, then the user's words.
std::string make_command_line(const MachineConfig& config, const Announcement& announcement);

}  // namespace minivm

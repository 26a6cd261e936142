#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "boot/initramfs.h"
#include "minivm/config.h"

namespace minivm {

/// The serial number (VirtIO 1.2, 5.2.6) by which PID 1 finds the root disk.
inline constexpr std::string_view root_disk_serial = "root";

/// The initramfs of this guest: PID 1, its configuration, the modules in load order, the default root or the user's
/// initrd. Throws when a host file cannot be had.
boot::Initramfs make_initramfs(const MachineConfig& config, const std::vector<std::string>& module_files,
                               const std::string& root_filesystem);

/// The kernel command line without device discovery: what makes boots fast and ends clean, then the user's words. With
/// `on_console_port` the console is virtio-console's, else the serial port.
std::string make_command_line(const MachineConfig& config, bool has_acpi, bool on_console_port = false);

}  // namespace minivm

#include "vmm/guest_files.h"

#include <fmt/format.h>

#include <array>
#include <stdexcept>

#include "boot/layout.h"
#include "boot/modules.h"
#include "guest-init/image.h"
#include "protocol/guest_config.h"
#include "vmm/host_paths.h"
#include "vmm/network.h"

namespace minivm {
namespace {

std::vector<std::byte> encode_guest_config(const MachineConfig& config, const std::string& root_filesystem) {
  protocol::GuestConfig guest;
  switch (config.root.kind) {
    case Root::Kind::built_in:
      guest.root = protocol::GuestConfig::Root::initramfs;
      break;
    case Root::Kind::disk:
      guest.root = protocol::GuestConfig::Root::disk;
      guest.root_disk = root_disk_serial;
      guest.filesystems = root_filesystem;
      break;
    case Root::Kind::initrd:
      guest.root = protocol::GuestConfig::Root::user;
      break;
  }
  guest.flags = (config.root.disk.read_only ? protocol::GuestConfig::read_only : 0) |
                (config.root.throw_away ? protocol::GuestConfig::overlay : 0) |
                (config.verbose_guest ? protocol::GuestConfig::verbose : 0);
  const GuestNetwork network = guest_network(config.network);
  if (config.network.kind != Network::Kind::none) guest.flags |= protocol::GuestConfig::network;
  guest.addresses = network.addresses;
  guest.gateways = network.gateways;
  guest.name_servers = network.name_servers;
  guest.hostname = config.hostname;
  guest.init = config.init;
  guest.power_off_port = layout::sleep_control;
  guest.power_off_value = layout::sleep_type_s5 << 2 | layout::sleep_enable;
  std::array<std::byte, 8192> buffer;
  protocol::Writer writer(buffer);
  guest.encode(writer);
  if (!writer.ok()) throw std::runtime_error("guest configuration: host name, init path or addresses too long");
  return {writer.written().begin(), writer.written().end()};
}

void add_modules(boot::Initramfs& initramfs, const std::vector<std::string>& module_files) {
  for (std::size_t i = 0; i < module_files.size(); ++i) {
    const std::string& file = module_files[i];
    std::string name = file.substr(file.rfind('/') + 1);
    name.resize(name.rfind(".ko") == std::string::npos ? name.size() : name.rfind(".ko"));
    const std::string path = fmt::format("{}/{:03}-{}.ko", protocol::initramfs::modules, i, name);
    if (file.ends_with(".ko")) {
      initramfs.add_host_file(path, 0644, file);
    } else {
      initramfs.add_file(path, 0644, boot::ModuleTree::read(file));
    }
  }
}

}  // namespace

boot::Initramfs make_initramfs(const MachineConfig& config, const std::vector<std::string>& module_files,
                               const std::string& root_filesystem) {
  boot::Initramfs initramfs;
  initramfs.add_directory("minivm");
  initramfs.add_static_file(protocol::initramfs::init, 0755, init_image());
  initramfs.add_file(protocol::initramfs::config, 0600, encode_guest_config(config, root_filesystem));
  initramfs.add_directory(protocol::initramfs::modules);
  add_modules(initramfs, module_files);
  if (config.root.kind == Root::Kind::built_in) {
    const std::string root = host_paths::asset("default-root.cpio");
    if (!host_paths::exists(root)) {
      throw std::runtime_error(fmt::format("default root: not found at {}: give --rootfs, or run tools/assets", root));
    }
    initramfs.append_archive(root);
  }
  if (!config.initrd.empty()) initramfs.append_archive(config.initrd);
  return initramfs;
}

std::string make_command_line(const MachineConfig& config, const Announcement& announcement) {
  // hvc0 begins where its driver does: until then the kernel speaks through the serial port, and never on both.
  const std::string console = announcement.on_console_port
                                  ? fmt::format("earlycon=uart8250,io,{:#x} console=hvc0", layout::com1)
                                  : "console=ttyS0";
  // First, since an early console begins with all that was said before it, unless it has heard of this.
  std::string line = config.verbose_guest ? "" : "quiet ";
  line += fmt::format("rdinit=/{} {} panic=-1", protocol::initramfs::init, console);
  // The crypto self-tests are most of a stock kernel's boot; the TSC is the host's, which KVM vouches for.
  line += " cryptomgr.notests tsc=reliable no_timer_check 8250.nr_uarts=1";
  // With one CPU Linux would take the lock prefixes out of its text, one TLB flush for each.
  line += " noreplace-smp";
  // No device needs bounce buffers: above 3 GiB of RAM Linux would zero 64 MiB for them, twice.
  line += " swiotlb=noforce";
  // One CPU's variables otherwise begin as 2 MiB to be zeroed, most of which is given back.
  line += " percpu_alloc=page";
  // There is a mechanism and nothing on it: Linux need not look at 32 slots. Without ACPI it would look again.
  if (announcement.transport != boot::Transport::pci) {
    line += announcement.discovery == boot::Discovery::fdt ? " pci=off" : " pci=conf1,noearly";
  }
  // On a hardware-reduced machine an interrupt number means nothing until ACPI has named it.
  if (announcement.discovery == boot::Discovery::command_line) line += " acpi=off";
  // Left alone, Linux reboots a hardware-reduced machine through EFI, which is not there, and then through a BIOS;
  // without ACPI's reset register every other way takes seconds to give up.
  line += announcement.discovery == boot::Discovery::acpi ? " reboot=a" : " reboot=t";
  if (!config.append.empty()) line += " " + config.append;
  return line;
}

}  // namespace minivm

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <stdexcept>
#include <utility>

#include "boot/acpi.h"
#include "boot/boot.h"
#include "boot/fdt.h"
#include "boot/kernel_image.h"
#include "boot/layout.h"
#include "boot/linux_params.h"
#include "boot/long_mode.h"
#include "boot/place.h"
#include "boot/pvh.h"

namespace minivm::boot {
namespace {

constexpr std::uint64_t command_line_room = 0x1'0000;

// The kernel reads the devices in front of the user's parameters, whose "--" would end what it reads.
std::string command_line(const BootPlan& plan, Discovery discovery) {
  if (discovery != Discovery::command_line) return plan.command_line;
  const std::string devices = virtio_mmio_parameters(plan.platform);
  return plan.command_line.empty() || devices.empty() ? devices + plan.command_line : devices + ' ' + plan.command_line;
}

void place_command_line(const GuestMemory& memory, const std::string& text, const Kernel::Image& image) {
  const std::uint64_t limit = std::min<std::uint64_t>(image.header.cmdline_size, command_line_room - 1);
  if (text.size() > limit) {
    throw std::runtime_error(fmt::format("command line: {} bytes, the kernel takes at most {}", text.size(), limit));
  }
  memory.write_bytes(layout::command_line, std::as_bytes(std::span(text.c_str(), text.size() + 1)));
}

// The RSDP's address. CPUs and interrupt controllers are described even if the devices are announced by other means,
// except by a device tree: that has them too, and Linux takes each from one place only.
Gpa place_acpi(const GuestMemory& memory, const Platform& platform, Discovery discovery) {
  if (discovery == Discovery::fdt) return Gpa{};
  Platform described = platform;
  if (discovery == Discovery::command_line) described.virtio.clear();
  memory.write_bytes(layout::acpi, build_acpi(described));
  return layout::acpi;
}

CpuState prepare_linux(const GuestMemory& memory, const Kernel::Image& image, const LinuxParams& params) {
  write_linux_params(memory, params);
  CpuState state{.mode = CpuState::Mode::long_mode,
                 .rip = raw(image.entry.address),
                 .rsp = raw(layout::boot_stack),
                 .rsi = raw(layout::boot_params)};
  enter_long_mode(memory, state);
  return state;
}

CpuState prepare_pvh(const GuestMemory& memory, const Kernel::Image& image, const LinuxParams& params) {
  write_pvh_start_info(memory, params.initramfs, params.rsdp);
  return {.mode = CpuState::Mode::protected_mode, .rip = raw(image.entry.address), .rbx = raw(layout::pvh_start_info)};
}

}  // namespace

CpuState load(GuestMemory& memory, const BootPlan& plan) {
  const Kernel::Image& image = plan.kernel.image();
  const Discovery discovery = choose_discovery(plan.kernel, plan.discovery);
  place_kernel(memory, image);
  const Placed initramfs = place_initramfs(memory, image, plan.initramfs);
  place_command_line(memory, command_line(plan, discovery), image);
  const Gpa rsdp = place_acpi(memory, plan.platform, discovery);
  const auto device_tree = discovery == Discovery::fdt ? build_fdt(plan.platform) : std::vector<std::byte>{};
  const LinuxParams params{image.header, initramfs, rsdp, device_tree};
  return image.entry.protocol == Entry::Protocol::pvh ? prepare_pvh(memory, image, params)
                                                      : prepare_linux(memory, image, params);
}

}  // namespace minivm::boot

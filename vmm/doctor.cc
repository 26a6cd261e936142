#include "vmm/doctor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <optional>
#include <system_error>

#include "boot/boot.h"
#include "vmm/guest_modules.h"
#include "vmm/host_paths.h"
#include "vmm/kernel_search.h"
#include "vmm/kvm.h"
#include "vmm/speed_probe.h"

namespace minivm {
namespace {

using State = Finding::State;

constexpr std::uint64_t least_memory = std::uint64_t{256} << 20;  // for one small guest

bool host_has_virtualization() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string line;
  while (std::getline(cpuinfo, line)) {
    if (line.starts_with("flags")) return line.contains(" svm") || line.contains(" vmx");
  }
  return false;
}

std::string fix_for_open(int error) {
  if (error == EACCES || error == EPERM) {
    return "sudo usermod -aG kvm \"$USER\" and log in again; or for everyone: echo 'KERNEL==\"kvm\", GROUP=\"kvm\", "
           "MODE=\"0666\", OPTIONS+=\"static_node=kvm\"' | sudo tee /etc/udev/rules.d/99-kvm.rules && "
           "sudo udevadm control --reload && sudo udevadm trigger --name-match=kvm";
  }
  if (!host_has_virtualization()) {
    return "this CPU shows neither VT-x nor AMD-V: switch it on in the firmware, or allow nested virtualization "
           "where this machine is itself a guest";
  }
  return "sudo modprobe kvm_intel || sudo modprobe kvm_amd; in a container, start it with --device /dev/kvm";
}

std::optional<Kvm> examine_device(std::vector<Finding>& findings) {
  try {
    Kvm kvm;
    findings.push_back({State::ok, "kvm", fmt::format("/dev/kvm, API version {}", Kvm::api_version), {}});
    return kvm;
  } catch (const std::system_error& error) {
    findings.push_back({State::failure, "kvm", error.what(), fix_for_open(error.code().value())});
  } catch (const std::exception& error) {
    findings.push_back({State::failure, "kvm", error.what(), "use a kernel of 2007 or later as the host's"});
  }
  return std::nullopt;
}

void examine_capabilities(const Kvm& kvm, std::vector<Finding>& findings) {
  struct Need {
    unsigned long capability;
    std::string_view name;
  };
  static constexpr std::array needs{Need{KVM_CAP_USER_MEMORY, "USER_MEMORY"}, Need{KVM_CAP_IRQCHIP, "IRQCHIP"},
                                    Need{KVM_CAP_IRQFD, "IRQFD"}, Need{KVM_CAP_IOEVENTFD, "IOEVENTFD"},
                                    Need{KVM_CAP_EXT_CPUID, "EXT_CPUID"}};
  std::vector<std::string_view> missing;
  for (const Need& need : needs) {
    if (kvm.check_extension(need.capability) == 0) missing.push_back(need.name);
  }
  if (missing.empty()) {
    findings.push_back(
        {State::ok,
         "features",
         fmt::format("all that is needed; up to {} virtual CPUs", kvm.check_extension(KVM_CAP_MAX_VCPUS)),
         {}});
  } else {
    findings.push_back(
        {State::failure, "features", fmt::format("KVM lacks {}", fmt::join(missing, ", ")), "use a newer host kernel"});
  }
}

void examine_speed(const Kvm& kvm, std::vector<Finding>& findings) {
  const std::string fix = "no stock kernel boots with this KVM (kvm_pvm or the like): use a host with VT-x or AMD-V";
  try {
    const GuestSpeed speed = probe_guest_speed(kvm);
    const std::string detail = fmt::format("guest kernel mode runs {:.1f} million instructions a second",
                                           static_cast<double>(speed.instructions_per_second) / 1e6);
    findings.push_back(speed.is_usable() ? Finding{State::ok, "speed", detail, {}}
                                         : Finding{State::failure, "speed", detail + ", by emulation", fix});
  } catch (const std::exception& error) {
    findings.push_back({State::failure, "speed", error.what(), fix});
  }
}

void examine_kernel(const std::string& named, std::vector<Finding>& findings) {
  MachineConfig config;
  config.kernel = named;
  try {
    const KernelChoice choice = find_kernel(config);
    const auto kernel = boot::Kernel::open(choice.path, {.cache_directory = host_paths::cache() + "/unpacked"});
    const std::string modules = find_modules(config, choice.path, kernel.release());
    const boot::Transport transport = boot::choose_transport(kernel, boot::Transport::automatic);
    const auto needed = find_guest_modules(kernel, modules, kernel_needs(config, transport, {}));
    boot::choose_discovery(kernel, boot::Discovery::automatic);
    findings.push_back({State::ok,
                        "kernel",
                        fmt::format("{} ({}): {} {}", choice.path, choice.why, kernel.release(), kernel.description()),
                        {}});
    findings.push_back(
        {State::ok, "modules", needed.empty() ? "none needed" : fmt::format("{} from {}", needed.size(), modules), {}});
  } catch (const std::exception& error) {
    findings.push_back({State::failure, "kernel", error.what(), "tools/assets kernel, or --kernel FILE"});
  }
}

void examine_root(std::vector<Finding>& findings) {
  const std::string root = host_paths::asset("default-root.cpio");
  if (host_paths::exists(root)) {
    findings.push_back({State::ok, "root", root, {}});
  } else {
    findings.push_back({State::failure, "root", "no default root at " + root, "tools/assets root, or --rootfs FILE"});
  }
}

void examine_cache(std::vector<Finding>& findings) {
  const std::string cache = host_paths::cache();
  const bool writable = !cache.empty() && ::access(cache.c_str(), W_OK) == 0;
  findings.push_back(writable ? Finding{State::ok, "cache", cache, {}}
                              : Finding{State::warning, "cache", cache + ": cannot be written to",
                                        "kernels are unpacked anew for each boot; set MINIVM_CACHE"});
}

void examine_memory(std::vector<Finding>& findings) {
  std::ifstream meminfo("/proc/meminfo");
  std::string key;
  std::string unit;
  std::uint64_t kib = 0;
  while (meminfo >> key >> kib && std::getline(meminfo, unit)) {
    if (key == "MemAvailable:") break;
  }
  const std::string detail = fmt::format("{} MiB available", kib >> 10);
  findings.push_back(kib << 10 >= least_memory
                         ? Finding{State::ok, "memory", detail, {}}
                         : Finding{State::warning, "memory", detail, "a guest may be killed when it uses its RAM"});
}

}  // namespace

std::vector<Finding> examine_host(const Examination& wanted) {
  std::vector<Finding> findings;
  if (const std::optional<Kvm> kvm = examine_device(findings)) {
    examine_capabilities(*kvm, findings);
    examine_speed(*kvm, findings);
  }
  if (wanted.only_kvm) return findings;
  examine_kernel(wanted.kernel, findings);
  examine_root(findings);
  examine_memory(findings);
  examine_cache(findings);
  return findings;
}

}  // namespace minivm

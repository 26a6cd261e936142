#include "vmm/kernel_search.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/utsname.h>

#include <stdexcept>
#include <vector>

#include "vmm/host_paths.h"

namespace minivm {
namespace {

std::string running_release() {
  utsname name{};
  return ::uname(&name) == 0 ? std::string(name.release) : std::string();
}

std::string parent_directory(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

}  // namespace

KernelChoice find_kernel(const MachineConfig& config) {
  if (!config.kernel.empty()) return {config.kernel, "--kernel"};
  if (std::string named = host_paths::environment("MINIVM_KERNEL"); !named.empty()) return {named, "$MINIVM_KERNEL"};
  const std::vector<KernelChoice> places{
      {host_paths::asset("kernel-minivm/vmlinuz"), "minivm's own kernel"},
      {host_paths::asset("kernel/vmlinuz"), "minivm's assets"},
      {fmt::format("/boot/vmlinuz-{}", running_release()), "the running host's kernel"},
      {"/boot/vmlinuz", "the host's kernel"},
      {"/vmlinuz", "the host's kernel"},
  };
  std::vector<std::string> tried;
  for (const KernelChoice& place : places) {
    if (host_paths::exists(place.path)) return place;
    tried.push_back(place.path);
  }
  throw std::runtime_error(
      fmt::format("kernel: none given with --kernel or $MINIVM_KERNEL, and none at {}", fmt::join(tried, ", ")));
}

std::string find_modules(const MachineConfig& config, const std::string& kernel_path, const std::string& release) {
  if (!config.modules.empty()) return config.modules;
  if (std::string beside = parent_directory(kernel_path) + "/modules"; host_paths::exists(beside + "/modules.dep")) {
    return beside;
  }
  if (release.empty()) return {};
  std::string host = fmt::format("/lib/modules/{}", release);
  return host_paths::exists(host + "/modules.dep") ? host : std::string();
}

}  // namespace minivm

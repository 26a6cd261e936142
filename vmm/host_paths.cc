#include "vmm/host_paths.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>

namespace minivm::host_paths {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::string cache() {
  if (std::string own = environment("MINIVM_CACHE"); !own.empty()) return own;
  if (const std::string xdg = environment("XDG_CACHE_HOME"); !xdg.empty()) return fmt::format("{}/minivm", xdg);
  const std::string home = environment("HOME");
  return home.empty() ? std::string() : fmt::format("{}/.cache/minivm", home);
}

std::string asset(std::string_view relative) { return fmt::format("{}/assets/{}", cache(), relative); }

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

}  // namespace minivm::host_paths

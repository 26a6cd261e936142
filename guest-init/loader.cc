#include "guest-init/loader.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "freestanding/fd.h"
#include "freestanding/text.h"
#include "guest-init/file.h"

namespace minivm::guest {
namespace {

using protocol::ExecFailed;
using protocol::ExecStep;

/// The System V ABI's AMD64 supplement, 5.2.1.
constexpr std::string_view glibc_loader = "/lib64/ld-linux-x86-64.so.2";

/// Where ld.so(8) looks without being told, in the spelling of Debian and of the others.
constexpr std::string_view library_directories[] = {
    "/lib/x86_64-linux-gnu/", "/usr/lib/x86_64-linux-gnu/", "/lib64/", "/usr/lib64/", "/lib/", "/usr/lib/"};
constexpr const char* cache_path = "/etc/ld.so.cache";

bool has_variable(char* const* environment, std::string_view assignment) noexcept {
  for (; *environment != nullptr; ++environment) {
    if (std::strncmp(*environment, assignment.data(), assignment.size()) == 0) return true;
  }
  return false;
}

bool in_a_directory(std::string_view library) noexcept {
  for (const std::string_view directory : library_directories) {
    const Path path = Path(directory).add(library);
    if (path.cut() || access(path.c_str(), F_OK) == 0) return true;
  }
  return false;
}

/// The cache holds each name, and each path that ends in it, as a C string.
bool in_cache(std::string_view library, std::span<std::byte> buffer) noexcept {
  const Fd file = open_file(cache_path, O_RDONLY);
  const std::size_t whole = library.size() + 1;  // with its terminator
  if (!file || whole > buffer.size() / 2) return false;
  std::size_t kept = 0;
  for (;;) {
    const ssize_t count = read(file.get(), buffer.data() + kept, buffer.size() - kept);
    if (count <= 0) return false;
    const std::size_t size = kept + static_cast<std::size_t>(count);
    const std::string_view text(reinterpret_cast<const char*>(buffer.data()), size);
    if (text.find(std::string_view(library.data(), whole)) != text.npos) return true;
    // What begins at the end of this part may end in the next.
    kept = size < whole ? size : whole - 1;
    std::memmove(buffer.data(), buffer.data() + size - kept, kept);
  }
}

}  // namespace

ExecFailed find_missing(const ExecPlan& plan, std::span<std::byte> buffer) noexcept {
  if (plan.interpreter == nullptr) return {};
  if (access(plan.interpreter, F_OK) != 0) {
    return {ExecStep::interpreter, static_cast<std::uint32_t>(errno), plan.interpreter};
  }
  if (plan.interpreter != glibc_loader || has_variable(plan.environment, "LD_LIBRARY_PATH=")) return {};
  for (char* const* library = plan.libraries; *library != nullptr; ++library) {
    const std::string_view name(*library);
    // A name with a slash is a path, which the loader takes as it is.
    if (name.find('/') != name.npos || in_a_directory(name) || in_cache(name, buffer)) continue;
    return {ExecStep::library, ENOENT, name};
  }
  return {};
}

}  // namespace minivm::guest

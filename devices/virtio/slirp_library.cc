#include "devices/virtio/slirp_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <stdexcept>

namespace minivm::virtio {
namespace {

constexpr const char* file = "libslirp.so.0";

template <typename Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  if (function == nullptr) {
    throw std::runtime_error(fmt::format("user network: {} has no {}: libslirp 4.5 or later is needed", file, name));
  }
}

SlirpLibrary load() {
  void* const library = ::dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    throw std::runtime_error(
        fmt::format("user network: {}: install libslirp (Debian's package libslirp0)", ::dlerror()));
  }
  SlirpLibrary functions;
  find(library, "slirp_new", functions.create);
  find(library, "slirp_cleanup", functions.destroy);
  find(library, "slirp_pollfds_fill", functions.fill_polls);
  find(library, "slirp_pollfds_poll", functions.handle_polls);
  find(library, "slirp_input", functions.input);
  find(library, "slirp_add_hostxfwd", functions.forward);
  return functions;
}

}  // namespace

const SlirpLibrary& SlirpLibrary::get() {
  static const SlirpLibrary library = load();
  return library;
}

}  // namespace minivm::virtio

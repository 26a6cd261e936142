#include "guest-init/config.h"

#include <cerrno>

#include "guest-init/file.h"

namespace minivm::guest {

Outcome read_config(protocol::GuestConfig& config) noexcept {
  static std::byte buffer[16 * 1024];
  const Path path = Path("/").add(protocol::initramfs::config);
  const auto bytes = read_file(path.c_str(), buffer);
  if (!bytes) return Failure{"read", path.view(), errno};
  const auto decoded = protocol::GuestConfig::decode(protocol::Reader(*bytes));
  if (!decoded) return Failure{"decode", path.view(), EBADMSG};
  config = *decoded;
  return {};
}

}  // namespace minivm::guest

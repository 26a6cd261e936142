#include "vmm/filesystem_probe.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <string_view>

#include "base/fd.h"

namespace minivm {
namespace {

using namespace std::string_view_literals;

struct Signature {
  std::string_view filesystem;
  std::uint32_t offset;
  std::string_view magic;
};

// From each file system's own header in the kernel: include/uapi/linux/magic.h, fs/*/.
constexpr std::array signatures{
    Signature{"ext4", 0x438, "\x53\xEF"sv},          Signature{"squashfs", 0, "hsqs"sv},
    Signature{"erofs", 0x400, "\xE2\xE1\xF5\xE0"sv}, Signature{"xfs", 0, "XFSB"sv},
    Signature{"btrfs", 0x10040, "_BHRfS_M"sv},       Signature{"f2fs", 0x400, "\x10\x20\xF5\xF2"sv},
};

}  // namespace

std::string probe_filesystem(const std::string& image) {
  const UniqueFd file(::open(image.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return {};
  for (const Signature& signature : signatures) {
    std::array<char, 16> found{};
    const ssize_t size = ::pread(file.get(), found.data(), signature.magic.size(), signature.offset);
    if (size >= 0 && std::string_view(found.data(), static_cast<std::size_t>(size)) == signature.magic) {
      return std::string(signature.filesystem);
    }
  }
  return {};
}

}  // namespace minivm

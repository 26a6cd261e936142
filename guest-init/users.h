#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <string_view>

#include "freestanding/text.h"

namespace minivm::guest {

/// Who a program runs as.
struct Identity {
  static constexpr std::size_t max_groups = 64;

  uid_t uid = 0;
  gid_t gid = 0;
  std::array<gid_t, max_groups> groups{};  // supplementary
  std::size_t group_count = 0;
  Text<64> name{"root"};
  Text<256> home{"/root"};
  Text<128> shell{"/bin/sh"};
};

/// The files of passwd(5) and group(5).
struct UserFiles {
  const char* passwd = "/etc/passwd";
  const char* group = "/etc/group";
};

/// Resolves "name|uid[:group|gid]"; empty is root. Numbers need no entry in the files, names do. Supplementary groups
/// are those that list the user, and none when the request names its group. Returns 0, or ENOENT.
int find_identity(std::string_view user, const UserFiles& files, Identity& identity) noexcept;

}  // namespace minivm::guest

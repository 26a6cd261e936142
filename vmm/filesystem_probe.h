#pragma once

#include <string>

namespace minivm {

/// The name under which Linux mounts the file system on `image`, by its superblock: "ext4", "squashfs" and so on.
/// Empty when it is none of those known here: the guest then tries all that its kernel has.
std::string probe_filesystem(const std::string& image);

}  // namespace minivm

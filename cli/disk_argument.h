#pragma once

#include <cstdint>
#include <string>

#include "minivm/config.h"

namespace minivm {

/// How a disk is meant to be used, as far as the user said so.
enum class DiskAccess : std::uint8_t { unsaid, read_only, read_write };

struct DiskArgument {
  Disk disk;
  DiskAccess access = DiskAccess::unsaid;
};

/// FILE[:ro|:rw][,direct][,iops=N][,bps=SIZE]. What does not read as one of these at the end belongs to the file's
/// name. Throws std::invalid_argument on a number that is none.
DiskArgument parse_disk(const std::string& text);

}  // namespace minivm

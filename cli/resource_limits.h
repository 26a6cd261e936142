#pragma once

#include <string_view>

#include "minivm/config.h"

namespace minivm {

/// "name=soft[:hard]", as in docker's --ulimit: the names of getrlimit(2) in small letters without RLIMIT_; a value is
/// a number in the limit's own unit, -1 or "unlimited"; without `hard` both are `soft`. Throws std::invalid_argument.
Limit parse_limit(std::string_view text);

/// "022" or "22", in octal digits. Throws std::invalid_argument.
std::uint32_t parse_umask(std::string_view text);

}  // namespace minivm

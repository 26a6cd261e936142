#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace minivm::host_paths {

/// An environment variable's value; empty when it is unset or empty.
std::string environment(const char* name);

/// $MINIVM_CACHE, else ${XDG_CACHE_HOME:-~/.cache}/minivm. Empty when there is no home either.
std::string cache();

/// `relative` under the cache's prepared guest assets.
std::string asset(std::string_view relative);

bool exists(const std::string& path);

}  // namespace minivm::host_paths

#pragma once

namespace minivm {

/// Follows semver.org; the one place that says it for the program, its libraries and the build.
inline constexpr const char* version = "0.1.0";

}  // namespace minivm

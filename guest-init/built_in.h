#pragma once

namespace minivm::guest {

/// Runs what is built in under the name argv[0] and returns its exit code; 127 when nothing is.
int run_built_in(int argc, char** argv) noexcept;

}  // namespace minivm::guest

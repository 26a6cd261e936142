#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cli/options.h"

namespace minivm {

/// One side of `minivm cp`.
struct CopyPlace {
  std::string machine;  // empty: this host
  std::string path;
};

/// "NAME:PATH" is in a machine; a path of the host that looks like that is written with ./ in front.
CopyPlace parse_copy_place(std::string_view text);

/// `minivm cp`: returns the exit code for the shell.
int copy_command(const CopyOptions& options);

}  // namespace minivm

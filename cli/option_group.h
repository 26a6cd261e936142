#pragma once

#include <CLI/CLI.hpp>

namespace minivm {

/// Options that --help shows under a heading. CLI11 compares each option that is added with all others of its group, so
/// that one long list would cost each start more than all else in the command line.
inline CLI::App& add_group(CLI::App& command, const char* heading) {
  CLI::App& group = *command.add_option_group(heading);
  group.set_help_flag();
  group.option_defaults()->group(heading);
  return group;
}

}  // namespace minivm

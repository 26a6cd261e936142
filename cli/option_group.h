#pragma once

#include <CLI/CLI.hpp>
#include <memory>

namespace minivm {

/// Options that --help shows under a heading. CLI11 compares each option that is added with all others of its group, so
/// that one long list would cost each start more than all else in the command line.
inline CLI::App& add_group(CLI::App& command, const char* heading) {
  // Without a parent until it is made: it would get a --help of its own.
  const auto group = std::make_shared<CLI::Option_group>("", heading, nullptr);
  *group->option_defaults() = *command.option_defaults();
  group->option_defaults()->group(heading);
  return *command.add_subcommand(group);
}

}  // namespace minivm

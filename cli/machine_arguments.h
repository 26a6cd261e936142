#pragma once

#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "cli/disk_argument.h"
#include "cli/options.h"

namespace CLI {
class App;
}

namespace minivm {

/// The options that make a machine, for `run` and `boot`.
class MachineArguments {
 public:
  /// Adds them to `command`, whose parser writes to `options`.
  MachineArguments(CLI::App& command, MachineOptions& options);

  /// What they mean together, once they are parsed; sets the log level. Throws std::invalid_argument.
  void settle(bool throw_away_by_default);

 private:
  void add_kernel_options(CLI::App& group);
  void add_root_options(CLI::App& group);
  void add_network_options(CLI::App& group);
  void add_hardware_options(CLI::App& group);
  void add_lifetime_options(CLI::App& command);
  void settle_network();

  MachineOptions& options_;
  DiskAccess root_access_ = DiskAccess::unsaid;
  bool ephemeral_ = false;
  std::optional<Network> network_;
  std::vector<PublishedPort> ports_;
  std::optional<std::array<std::uint8_t, 6>> mac_;
  int verbosity_ = 0;
};

}  // namespace minivm

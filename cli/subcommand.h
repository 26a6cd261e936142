#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/options.h"

namespace CLI {
class App;
}

namespace minivm {

/// What follows the first -- of a command line; it is the guest's, to the letter.
struct WordsAfterMark {
  bool marked = false;  // there was a --
  std::vector<std::string> words;
};

/// The options of one verb, and what they come to. Only the verb that was chosen is built: a start is not to pay for
/// the options of all others.
class Subcommand {
 public:
  virtual ~Subcommand() = default;

  /// Called once, after the parser. Throws std::invalid_argument.
  virtual Options result(WordsAfterMark after_mark) = 0;
};

/// Each adds its verb's options to `command`.
std::unique_ptr<Subcommand> make_run_subcommand(CLI::App& command);
std::unique_ptr<Subcommand> make_boot_subcommand(CLI::App& command);
std::unique_ptr<Subcommand> make_exec_subcommand(CLI::App& command);
std::unique_ptr<Subcommand> make_shell_subcommand(CLI::App& command);
std::unique_ptr<Subcommand> make_copy_subcommand(CLI::App& command);
std::unique_ptr<Subcommand> make_list_subcommand(CLI::App& command);
std::unique_ptr<Subcommand> make_logs_subcommand(CLI::App& command);
std::unique_ptr<Subcommand> make_stop_subcommand(CLI::App& command);
std::unique_ptr<Subcommand> make_kill_subcommand(CLI::App& command);
std::unique_ptr<Subcommand> make_wait_subcommand(CLI::App& command);
std::unique_ptr<Subcommand> make_remove_subcommand(CLI::App& command);
std::unique_ptr<Subcommand> make_inspect_subcommand(CLI::App& command);
std::unique_ptr<Subcommand> make_stats_subcommand(CLI::App& command);
std::unique_ptr<Subcommand> make_doctor_subcommand(CLI::App& command);
std::unique_ptr<Subcommand> make_bench_subcommand(CLI::App& command);

}  // namespace minivm

#pragma once

#include "cli/environment.h"
#include "cli/subcommand.h"

namespace minivm {

/// The options of a command in the guest, and its words, for verbs that take one.
class CommandArguments {
 public:
  /// Adds them to `app`, whose parser writes to `command`.
  CommandArguments(CLI::App& app, Command& command);

  /// Once they are parsed: the command's words, and whether it gets a terminal. Throws std::invalid_argument.
  void settle(WordsAfterMark after_mark);
  /// --tty was given.
  bool wants_terminal() const noexcept { return force_tty_; }

 private:
  void add_environment_options(CLI::App& group);
  void add_terminal_options(CLI::App& group);
  void add_limit_options(CLI::App& group);
  void take_words(WordsAfterMark after_mark);

  CLI::App& app_;
  Command& command_;
  Environment environment_;
  Environment file_environment_;
  bool force_tty_ = false;
  bool no_tty_ = false;
  bool interactive_ = false;
};

}  // namespace minivm

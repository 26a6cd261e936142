#include "cli/command_arguments.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "cli/parsed_option.h"

namespace minivm {
namespace {

constexpr const char* group = "Command";

/// "K=V", or "K" with minivm's own value; nothing when that is unset.
void add_environment(const std::string& text, std::vector<std::string>& env) {
  if (text.starts_with('=')) throw std::invalid_argument(text + ": no name before =");
  if (text.contains('=')) {
    env.push_back(text);
  } else if (const char* value = std::getenv(text.c_str())) {
    env.push_back(text + "=" + value);
  }
}

}  // namespace

CommandArguments::CommandArguments(CLI::App& app, Command& command) : app_(app), command_(command) {
  add_parsed(app, "--env,-e", "set a variable; K alone passes minivm's own value; may be given again",
             [&command](const std::string& text) { add_environment(text, command.env); })
      ->type_name("K[=V]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group(group);
  app.add_option("--cwd,--workdir,-w", command.directory, "working directory in the guest")
      ->type_name("DIR")
      ->group(group);
  app.add_option("--user,-u", command.user, "run as this user")->type_name("USER[:GROUP]")->group(group);
  app.add_option("--upload", command.upload, "send this ELF64 program of the host along, and run it as the command")
      ->type_name("FILE")
      ->group(group);
  add_terminal_options();
  app.prefix_command();
}

void CommandArguments::add_terminal_options() {
  app_.add_flag("--tty,-t", force_tty_, "give the command a terminal (default: when stdin and stdout are one)")
      ->group(group);
  app_.add_flag("--no-tty,-T", no_tty_, "never do that")->group(group);
  app_.add_flag("--interactive,-i", interactive_, "accepted; stdin is always passed on")->group(group);
}

void CommandArguments::settle(WordsAfterMark after_mark) {
  take_words(std::move(after_mark));
  command_.tty = force_tty_ || (!no_tty_ && ::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0);
}

void CommandArguments::take_words(WordsAfterMark after_mark) {
  std::vector<std::string>& argv = command_.argv;
  argv = app_.remaining();
  // CLI11 takes an option that it does not know for the command's first word.
  if (!argv.empty() && argv.front().starts_with('-')) {
    throw std::invalid_argument(
        fmt::format("{0}: no option {1}; see minivm {0} --help", app_.get_name(), argv.front()));
  }
  // Behind the first word, as in `git checkout -- file`, it is no mark but one more word.
  if (!argv.empty() && after_mark.marked) argv.emplace_back("--");
  argv.insert(argv.end(), std::make_move_iterator(after_mark.words.begin()),
              std::make_move_iterator(after_mark.words.end()));
  if (argv.empty() && !command_.upload.empty()) argv = {command_.upload};
}

}  // namespace minivm

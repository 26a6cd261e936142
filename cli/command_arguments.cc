#include "cli/command_arguments.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "cli/option_group.h"
#include "cli/parsed_option.h"
#include "cli/resource_limits.h"

namespace minivm {
namespace {

/// A limit that is given again replaces the earlier one of the same resource.
void add_limit(const Limit& limit, std::vector<Limit>& limits) {
  std::erase_if(limits, [&](const Limit& each) { return each.resource == limit.resource; });
  limits.push_back(limit);
}

}  // namespace

CommandArguments::CommandArguments(CLI::App& app, Command& command) : app_(app), command_(command) {
  CLI::App& group = add_group(app, "Command");
  add_environment_options(group);
  group.add_option("--cwd,--workdir,-w", command.directory, "working directory in the guest")->type_name("DIR");
  group.add_option("--user,-u", command.user, "run as this user")->type_name("USER[:GROUP]");
  group.add_option("--upload", command.upload, "send this ELF64 program of the host along, and run it as the command")
      ->type_name("FILE");
  add_limit_options(group);
  add_terminal_options(group);
  app.prefix_command();
}

void CommandArguments::add_environment_options(CLI::App& group) {
  add_parsed(group, "--env,-e", "set a variable; K alone passes minivm's own value; may be given again",
             [this](const std::string& text) { environment_.set(text); })
      ->type_name("K[=V]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_parsed(group, "--env-file", "a file of such lines, # begins a comment; -e wins; may be given again",
             [this](const std::string& path) { file_environment_.read(path); })
      ->type_name("FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void CommandArguments::add_limit_options(CLI::App& group) {
  add_parsed(group, "--ulimit", "a resource limit, for instance nofile=1024:4096 or core=0; may be given again",
             [this](const std::string& text) { add_limit(parse_limit(text), command_.limits); })
      ->type_name("NAME=SOFT[:HARD]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_parsed(group, "--umask", "in octal digits (default 022)", [this](const std::string& text) {
    command_.umask = parse_umask(text);
  })->type_name("MASK");
}

void CommandArguments::add_terminal_options(CLI::App& group) {
  group.add_flag("--tty,-t", force_tty_, "give the command a terminal (default: when stdin and stdout are one)");
  group.add_flag("--no-tty,-T", no_tty_, "never do that");
  group.add_flag("--interactive,-i", interactive_, "accepted; stdin is always passed on");
}

void CommandArguments::settle(WordsAfterMark after_mark) {
  take_words(std::move(after_mark));
  command_.env = environment_.over(file_environment_);
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

#include "cli/console_choice.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace minivm {
namespace {

HostFile duplicate(int fd) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  return copy ? HostFile(std::move(copy), HostFile::Direction::write) : HostFile();
}

}  // namespace

HostFile open_console(const ConsoleChoice& choice) {
  switch (choice.kind) {
    case ConsoleChoice::Kind::stdio:
      return duplicate(STDOUT_FILENO);
    case ConsoleChoice::Kind::stderr_only:
      return duplicate(STDERR_FILENO);
    case ConsoleChoice::Kind::file:
      return HostFile(open_file(choice.path, O_WRONLY | O_CREAT | O_TRUNC, 0644), HostFile::Direction::write);
    case ConsoleChoice::Kind::none:
      break;
  }
  return {};
}

void add_terminal_type(std::vector<std::string>& env) {
  const bool set = std::ranges::any_of(env, [](const std::string& each) { return each.starts_with("TERM="); });
  if (const char* term = std::getenv("TERM"); term != nullptr && !set) env.push_back(std::string("TERM=") + term);
}

}  // namespace minivm

#include "guest-init/exec_plan.h"

#include <cerrno>
#include <cstring>
#include <new>

namespace minivm::guest {
namespace {

constexpr std::string_view default_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr std::size_t default_variables = 6;
constexpr std::size_t default_variables_size = 1024;  // their names and values: Identity bounds them

/// Hands out pieces of a region one after the other. `ok` turns false for good when it is used up or when a text
/// cannot be a C string.
class Arena {
 public:
  explicit Arena(std::span<std::byte> memory) noexcept : memory_(memory) {}

  char** take_list(std::size_t count) noexcept {
    return reinterpret_cast<char**>(take((count + 1) * sizeof(char*)));  // zeroed: the last stays nullptr
  }

  char* take_text(std::string_view first, std::string_view second = {}) noexcept {
    if (first.find('\0') != first.npos) ok_ = false;
    char* const text = reinterpret_cast<char*>(take(first.size() + second.size() + 1));
    if (text == nullptr) return nullptr;
    std::memcpy(text, first.data(), first.size());
    if (!second.empty()) std::memcpy(text + first.size(), second.data(), second.size());
    return text;
  }

  bool ok() const noexcept { return ok_; }

 private:
  std::byte* take(std::size_t size) noexcept {
    if (!ok_ || size > memory_.size()) {
      ok_ = false;
      return nullptr;
    }
    std::byte* const taken = memory_.data();
    memory_ = memory_.subspan(size);
    return taken;
  }

  std::span<std::byte> memory_;
  bool ok_ = true;
};

/// The value of a "NAME=value" entry when its name is `name`, else nullptr.
const char* value_of(const char* entry, std::string_view name) noexcept {
  if (std::strncmp(entry, name.data(), name.size()) != 0 || entry[name.size()] != '=') return nullptr;
  return entry + name.size() + 1;
}

void fill(char** list, const protocol::StringList& texts, Arena& arena) noexcept {
  std::size_t count = 0;
  texts.for_each([&](std::string_view text) noexcept {
    char* const copy = arena.take_text(text);
    if (arena.ok()) list[count++] = copy;
  });
}

class Environment {
 public:
  Environment(char** list, Arena& arena) noexcept : list_(list), arena_(arena) {}

  void add(char* entry) noexcept {
    if (arena_.ok()) list_[count_++] = entry;
  }

  const char* find(std::string_view name) const noexcept {
    for (std::size_t i = 0; i < count_; ++i) {
      if (const char* value = value_of(list_[i], name)) return value;
    }
    return nullptr;
  }

  void add_missing(std::string_view assignment, std::string_view value) noexcept {
    const std::string_view name(assignment.data(), assignment.size() - 1);
    if (find(name) == nullptr) add(arena_.take_text(assignment, value));
  }

 private:
  char** list_;
  Arena& arena_;
  std::size_t count_ = 0;
};

}  // namespace

std::size_t ExecPlan::size_for(const protocol::Exec& request, std::size_t payload_size) noexcept {
  // Every string of the payload has a length of four bytes in front, more than the terminator it gets.
  const std::size_t pointers =
      std::size_t{request.argv.count()} + request.env.count() + default_variables + request.libraries.count() + 3;
  return sizeof(ExecPlan) + pointers * sizeof(char*) + payload_size + default_variables_size;
}

ExecPlan* ExecPlan::build(const protocol::Exec& request, const UserFiles& files, std::span<std::byte> memory,
                          protocol::ExecFailed& failed) noexcept {
  failed = {protocol::ExecStep::request, EINVAL};
  ExecPlan* const plan = new (memory.data()) ExecPlan;
  if (const int error = find_identity(request.user, files, plan->identity)) {
    failed = {protocol::ExecStep::user, static_cast<std::uint32_t>(error)};
    return nullptr;
  }
  Arena arena(memory.subspan(sizeof(ExecPlan)));
  plan->argv = arena.take_list(request.argv.count());
  plan->environment = arena.take_list(request.env.count() + default_variables);
  plan->libraries = arena.take_list(request.libraries.count());
  if (!request.directory.empty()) plan->directory = arena.take_text(request.directory);
  if (!request.interpreter.empty()) plan->interpreter = arena.take_text(request.interpreter);
  plan->umask = request.umask;
  plan->limits = request.limits;
  fill(plan->argv, request.argv, arena);
  fill(plan->libraries, request.libraries, arena);
  Environment environment(plan->environment, arena);
  request.env.for_each([&](std::string_view entry) noexcept { environment.add(arena.take_text(entry)); });
  environment.add_missing("PATH=", default_path);
  environment.add_missing("HOME=", plan->identity.home.view());
  environment.add_missing("USER=", plan->identity.name.view());
  environment.add_missing("LOGNAME=", plan->identity.name.view());
  environment.add_missing("SHELL=", plan->identity.shell.view());
  if ((request.flags & protocol::Exec::tty) != 0) environment.add_missing("TERM=", "linux");
  if (!arena.ok()) return nullptr;
  plan->search_path = environment.find("PATH");
  return plan;
}

}  // namespace minivm::guest

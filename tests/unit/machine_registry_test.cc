#include "vmm/machine_registry.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/scratch_directory.h"

namespace minivm {
namespace {

using test::ScratchDirectory;

MachineRegistry registry_in(const ScratchDirectory& scratch) {
  return MachineRegistry(StateDirectory(scratch.path("minivm")));
}

MachineRecord record_of(const std::string& name, bool kept = true) {
  return {.name = name, .pid = ::getpid(), .created = 1, .ready = true, .kept = kept, .command = {"httpd", "-f"}};
}

/// Runs `work` in a process of its own, which then waits to be killed. Returns when it waits.
class OtherProcess {
 public:
  explicit OtherProcess(const std::function<void()>& work) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      work();
      [[maybe_unused]] const ssize_t written = ::write(ends[1], "", 1);
      for (;;) ::pause();
    }
    ::close(ends[1]);
    char word = 1;
    REQUIRE(::read(ends[0], &word, 1) == 1);
    ::close(ends[0]);
  }
  ~OtherProcess() { kill(); }
  OtherProcess(const OtherProcess&) = delete;
  OtherProcess& operator=(const OtherProcess&) = delete;

  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(std::exchange(pid_, 0), nullptr, 0);
  }

 private:
  pid_t pid_ = 0;
};

/// The machine of a process that lives as long as the result.
OtherProcess machine_of_another(const ScratchDirectory& scratch, const std::string& name, bool kept) {
  return OtherProcess([&] {
    auto* registration = new Registration(registry_in(scratch).add(name));  // lives as long as the process
    registration->describe(record_of(name, kept));
    registration->listen().release();
  });
}

/// Exit statuses of as many processes, all let go at once.
std::vector<int> race(int count, const std::function<int()>& work) {
  int gate[2];
  REQUIRE(::pipe(gate) == 0);
  std::vector<pid_t> children;
  for (int i = 0; i < count; ++i) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    ::close(gate[1]);
    char word = 0;
    [[maybe_unused]] const ssize_t size = ::read(gate[0], &word, 1);  // its end lets all go
    int status = 99;
    try {
      status = work();
    } catch (const std::exception&) {
      status = 98;
    }
    ::_exit(status);
  }
  ::close(gate[0]);
  ::close(gate[1]);
  std::vector<int> results;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    results.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  }
  return results;
}

TEST_CASE("A machine's name is short and harmless in a path") {
  for (const char* name : {"web", "a", "7", "Web-1.2_x", "0123456789abcdef"}) CHECK(is_machine_name(name));
  CHECK(is_machine_name(std::string(63, 'x')));
  CHECK_FALSE(is_machine_name(std::string(64, 'x')));
  for (const char* name : {"", ".", "..", "-x", "_x", "a/b", "a b", "a\n", "\xC3\xA4"})
    CHECK_FALSE(is_machine_name(name));
}

TEST_CASE("A machine is seen from its registration to its end") {
  const ScratchDirectory scratch;
  MachineRegistry registry = registry_in(scratch);
  CHECK(registry.list().empty());
  CHECK_FALSE(registry.find("web"));
  std::optional<Registration> web(registry.add("web"));
  CHECK(registry.find("web")->state == MachineState::starting);
  MachineRecord record = record_of("web");
  record.ready = false;
  web->describe(record);
  CHECK(registry.find("web")->state == MachineState::starting);
  record.ready = true;
  web->describe(record);
  REQUIRE(registry.list().size() == 1);
  CHECK(registry.list()[0].state == MachineState::running);
  CHECK(registry.list()[0].record->command == std::vector<std::string>{"httpd", "-f"});
  web->keep({.ended = 5, .exit_code = 3, .reason = "why", .console = {"last \xFF words"}});
  CHECK(registry.find("web")->state == MachineState::running);  // as long as its process is there
  web.reset();
  const auto ended = registry.find("web");
  REQUIRE(ended);
  CHECK(ended->state == MachineState::ended);
  CHECK(ended->end->exit_code == 3);
  CHECK(ended->end->reason == "why");
  CHECK_FALSE(ended->end->killed);
  registry.remove("web");
  CHECK(registry.list().empty());
  CHECK(std::filesystem::is_empty(scratch.path("minivm")));
}

TEST_CASE("A machine that is not kept leaves nothing") {
  const ScratchDirectory scratch;
  MachineRegistry registry = registry_in(scratch);
  {
    const Registration web = registry.add("web");
    web.describe(record_of("web"));
    const UniqueFd socket = web.listen();
  }
  CHECK(std::filesystem::is_empty(scratch.path("minivm")));
}

TEST_CASE("A name is taken while its machine runs, and while what it left is there") {
  const ScratchDirectory scratch;
  MachineRegistry registry = registry_in(scratch);
  std::optional<Registration> web(registry.add("web"));
  web->describe(record_of("web"));
  CHECK_THROWS_WITH(registry.add("web"), "machine web: runs already");
  CHECK_THROWS_WITH(registry.remove("web"), "machine web: runs");
  web->keep({});
  web.reset();
  CHECK_THROWS_WITH(registry.add("web"), Catch::Contains("minivm rm web"));
  registry.remove("web");
  CHECK_THROWS_WITH(registry.remove("web"), "machine web: there is none");
  CHECK(registry.add("web").name() == "web");
  CHECK_THROWS_WITH(registry.add("../web"), Catch::Contains("machine ../web: a name"));
}

TEST_CASE("Names that are made up are names, and differ") {
  const ScratchDirectory scratch;
  MachineRegistry registry = registry_in(scratch);
  const Registration one = registry.add("");
  const Registration other = registry.add("");
  CHECK(is_machine_name(one.name()));
  CHECK(one.name() != other.name());
  CHECK(registry.list().size() == 2);
}

TEST_CASE("A machine whose process was killed is marked as killed by whoever sees it first") {
  const ScratchDirectory scratch;
  OtherProcess process = machine_of_another(scratch, "web", true);
  const MachineRegistry registry = registry_in(scratch);
  CHECK(registry.find("web")->state == MachineState::running);
  process.kill();
  const auto killed = registry.find("web");
  REQUIRE(killed);
  CHECK(killed->state == MachineState::ended);
  CHECK(killed->end->killed);
  CHECK(killed->end->exit_code == 137);
  CHECK_FALSE(std::filesystem::exists(scratch.path("minivm/web/socket")));
  registry.remove("web");
  CHECK(std::filesystem::is_empty(scratch.path("minivm")));
}

TEST_CASE("What a killed process left of a machine that was not to be kept is removed, and its name is free") {
  const ScratchDirectory scratch;
  machine_of_another(scratch, "web", false).kill();
  MachineRegistry registry = registry_in(scratch);
  CHECK(registry.add("web").name() == "web");
  machine_of_another(scratch, "other", false).kill();
  CHECK(registry.list().empty());
  CHECK(std::filesystem::is_empty(scratch.path("minivm")));
}

TEST_CASE("Of many processes that take one name at once, one gets it") {
  const ScratchDirectory scratch;
  const auto results = race(8, [&] {
    auto registration = new Registration(registry_in(scratch).add("web"));
    registration->describe(record_of("web"));
    ::usleep(200'000);  // the others must fail because it lives
    registration->keep({});
    delete registration;
    return 0;
  });
  CHECK(std::ranges::count(results, 0) == 1);
  CHECK(std::ranges::count(results, 98) == 7);
}

TEST_CASE("Many processes may settle a killed machine at once") {
  const ScratchDirectory scratch;
  const bool kept = GENERATE(true, false);
  machine_of_another(scratch, "web", kept).kill();
  const auto results = race(8, [&] {
    const auto entry = registry_in(scratch).find("web");
    if (!entry) return 1;
    return entry->state == MachineState::ended && entry->end && entry->end->killed ? 2 : 3;
  });
  CHECK(std::ranges::count(results, kept ? 2 : 1) == 8);
}

TEST_CASE("Of many processes that remove a machine at once, one did") {
  const ScratchDirectory scratch;
  machine_of_another(scratch, "web", true).kill();
  const auto results = race(8, [&] {
    registry_in(scratch).remove("web");
    return 0;
  });
  CHECK(std::ranges::count(results, 0) == 1);
  CHECK(std::filesystem::is_empty(scratch.path("minivm")));
}

TEST_CASE("Files that nobody of ours wrote are no machine's word") {
  const ScratchDirectory scratch;
  MachineRegistry registry = registry_in(scratch);
  const Registration web = registry.add("web");
  for (const char* text : {"", "{", "[]", "7", "{\"name\": 7}", "{\"name\": \"web\", \"pid\": \"x\"}"}) {
    CAPTURE(text);
    scratch.write("minivm/web/machine.json", text);
    CHECK_FALSE(registry.find("web")->record);
  }
}

TEST_CASE("A file that is not ours keeps its directory from being removed") {
  const ScratchDirectory scratch;
  machine_of_another(scratch, "web", true).kill();
  scratch.write("minivm/web/precious", "data");
  CHECK_THROWS_WITH(registry_in(scratch).remove("web"), Catch::Contains("machine web: removing its directory"));
  CHECK(std::filesystem::exists(scratch.path("minivm/web/precious")));
  MachineRegistry registry = registry_in(scratch);
  const Registration other = registry.add("other");
  REQUIRE(registry.list().size() == 1);
  CHECK(registry.list()[0].name == "other");
}

TEST_CASE("A state directory that others may enter, or that is a link, is refused") {
  const ScratchDirectory scratch;
  REQUIRE(::mkdir(scratch.path("open").c_str(), 0755) == 0);
  CHECK_THROWS_WITH(StateDirectory(scratch.path("open")), Catch::Contains("open to other users (mode 755)"));
  REQUIRE(::mkdir(scratch.path("private").c_str(), 0700) == 0);
  CHECK_NOTHROW(StateDirectory(scratch.path("private")));
  REQUIRE(::symlink("private", scratch.path("link").c_str()) == 0);
  CHECK_THROWS_AS(StateDirectory(scratch.path("link")), std::system_error);
  CHECK_THROWS_WITH(StateDirectory(scratch.path("absent/minivm")), Catch::Contains("state directory"));
}

TEST_CASE("The state directory is where the user's runtime files are") {
  const ScratchDirectory scratch;
  const char* const before = std::getenv("XDG_RUNTIME_DIR");
  const std::string kept = before == nullptr ? "" : before;
  ::setenv("XDG_RUNTIME_DIR", scratch.path().c_str(), 1);
  CHECK(StateDirectory::default_path() == scratch.path("minivm"));
  ::unsetenv("XDG_RUNTIME_DIR");
  const std::string user = std::to_string(::geteuid());
  const std::string path = StateDirectory::default_path();
  CHECK((path == "/run/user/" + user + "/minivm" || path == "/tmp/minivm-" + user));
  if (before != nullptr) ::setenv("XDG_RUNTIME_DIR", kept.c_str(), 1);
}

TEST_CASE("A control socket works below a path that no socket address can hold") {
  const ScratchDirectory scratch;
  const std::string deep = scratch.path(std::string(120, 'd'));
  REQUIRE(::mkdir(deep.c_str(), 0700) == 0);
  MachineRegistry registry{StateDirectory(deep + "/minivm")};
  const Registration web = registry.add("web");
  const UniqueFd socket = web.listen();
  CHECK(socket);
  CHECK(std::filesystem::is_socket(deep + "/minivm/web/socket"));
}

}  // namespace
}  // namespace minivm

#include "vmm/exec_session.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>

namespace minivm {
namespace {

using protocol::ExecFailed;
using protocol::ExecStep;
using protocol::Exited;

/// A session and what became of it.
struct Watched {
  explicit Watched(std::uint32_t sinks, Command command = {.argv = {"tool"}})
      : session(std::move(command), sinks, [this](ExecOutcome ended) {
          ++ends;
          outcome = std::move(ended);
        }) {}

  int ends = 0;
  ExecOutcome outcome;
  ExecSession session;
};

ExecOutcome failure(ExecStep step, int error, const Command& command = {.argv = {"tool"}}) {
  return describe_failure({step, static_cast<std::uint32_t>(error)}, command);
}

TEST_CASE("A session ends when the exit status and the last byte of every sink have come") {
  Watched exec(2);
  SECTION("status first") {
    exec.session.exited({.flags = 0, .value = 3});
    exec.session.sink_done(0);
  }
  SECTION("status in between") {
    exec.session.sink_done(0);
    exec.session.exited({.flags = 0, .value = 3});
  }
  CHECK(exec.ends == 0);
  exec.session.sink_done(0);
  CHECK(exec.ends == 1);
  REQUIRE(exec.outcome.status);
  CHECK(exec.outcome.status->code == 3);
}

TEST_CASE("A status that comes last ends the session") {
  Watched exec(1);
  exec.session.sink_done(0);
  CHECK(exec.ends == 0);
  exec.session.exited({});
  CHECK(exec.ends == 1);
}

TEST_CASE("Without sinks the status alone ends the session") {
  Watched exec(0);
  exec.session.exited({});
  CHECK(exec.ends == 1);
}

TEST_CASE("A sink whose reader has gone is done") {
  Watched exec(1);
  exec.session.exited({.flags = 0, .value = 0});
  exec.session.sink_done(EPIPE);
  CHECK(exec.ends == 1);
  REQUIRE(exec.outcome.status);
  CHECK(exec.outcome.status->code == 0);
}

TEST_CASE("A session ends once, whatever a guest says after that") {
  Watched exec(0);
  exec.session.exited({.flags = 0, .value = 1});
  exec.session.exited({.flags = 0, .value = 2});
  exec.session.failed({ExecStep::execute, ENOENT});
  exec.session.sink_done(0);
  exec.session.lost("gone");
  CHECK(exec.ends == 1);
  REQUIRE(exec.outcome.status);
  CHECK(exec.outcome.status->code == 1);
}

TEST_CASE("An exit by signal is 128 + its number") {
  Watched exec(0);
  exec.session.exited({.flags = Exited::by_signal, .value = SIGTERM});
  REQUIRE(exec.outcome.status);
  CHECK(exec.outcome.status->signal == SIGTERM);
  CHECK(exec.outcome.status->code == 128 + SIGTERM);
  CHECK_FALSE(exec.outcome.status->out_of_memory);
}

TEST_CASE("The guest's OOM killer is told from other signals") {
  Watched exec(0);
  exec.session.exited({.flags = Exited::by_signal | Exited::out_of_memory, .value = SIGKILL});
  REQUIRE(exec.outcome.status);
  CHECK(exec.outcome.status->code == 137);
  CHECK(exec.outcome.status->out_of_memory);
}

TEST_CASE("Whatever number a guest sends, the exit code is one of a process") {
  Watched exited(0);
  exited.session.exited({.flags = 0, .value = 0xFFFF'FF07});
  CHECK(exited.outcome.status->code == 7);
  Watched killed(0);
  killed.session.exited({.flags = Exited::by_signal, .value = 0xFFFF'FFFF});
  CHECK(killed.outcome.status->code == 255);
}

TEST_CASE("An exec that failed ends at once: its sinks will never open") {
  Watched exec(2);
  exec.session.failed({ExecStep::execute, ENOENT});
  CHECK(exec.ends == 1);
  CHECK_FALSE(exec.outcome.status);
  CHECK(exec.outcome.launcher_code == 127);
}

TEST_CASE("A lost channel ends the session with its reason") {
  Watched exec(2);
  exec.session.lost("the guest is gone");
  CHECK(exec.ends == 1);
  CHECK_FALSE(exec.outcome.status);
  CHECK(exec.outcome.launcher_code == 125);
  CHECK(exec.outcome.failure == "the guest is gone");
}

TEST_CASE("A status that came before the channel was lost stands") {
  Watched exec(1);
  exec.session.exited({.flags = 0, .value = 9});
  exec.session.lost("the guest is gone");
  CHECK(exec.ends == 1);
  REQUIRE(exec.outcome.status);
  CHECK(exec.outcome.status->code == 9);
}

TEST_CASE("A program that is not there is 127, one that cannot run is 126") {
  CHECK(failure(ExecStep::execute, ENOENT).launcher_code == 127);
  for (const int error : {EACCES, ENOEXEC, EISDIR, ENOMEM}) {
    CAPTURE(error);
    CHECK(failure(ExecStep::execute, error).launcher_code == 126);
  }
}

TEST_CASE("All other steps are 125, even with ENOENT") {
  for (const ExecStep step :
       {ExecStep::request, ExecStep::streams, ExecStep::terminal, ExecStep::upload, ExecStep::user, ExecStep::directory,
        ExecStep::fork, ExecStep::identity, static_cast<ExecStep>(99)}) {
    CAPTURE(static_cast<int>(step));
    const ExecOutcome outcome = failure(step, ENOENT);
    CHECK(outcome.launcher_code == 125);
    CHECK_FALSE(outcome.status);
    CHECK_FALSE(outcome.failure.empty());
  }
}

TEST_CASE("A failure names what the user named") {
  const Command command{.argv = {"/bin/tool"}, .env = {}, .directory = "/srv", .user = "someone", .upload = "a.out"};
  CHECK(failure(ExecStep::directory, ENOENT, command).failure ==
        "changing to /srv in the guest: No such file or directory");
  CHECK(failure(ExecStep::user, ENOENT, command).failure == "user someone in the guest: no such user or group");
  CHECK(failure(ExecStep::upload, EIO, command).failure == "sending a.out: Input/output error");
  CHECK(failure(ExecStep::execute, EACCES, command).failure == "/bin/tool: Permission denied");
  CHECK(failure(ExecStep::execute, ENOENT, command).failure ==
        "/bin/tool: not found in the guest, or its interpreter is not");
  CHECK(failure(ExecStep::execute, ENOENT).failure == "tool: not found in the guest's PATH");
  CHECK(failure(ExecStep::limits, EINVAL).failure == "setting resource limits in the guest: Invalid argument");
}

TEST_CASE("What an upload misses is named, and is 127") {
  const Command command{.argv = {"tool"}, .upload = "a.out"};
  const ExecOutcome library = describe_failure({ExecStep::library, ENOENT, "libfoo.so.1"}, command);
  CHECK(library.launcher_code == 127);
  CHECK(library.failure.starts_with("a.out: needs the library libfoo.so.1, which the guest's root does not have"));
  const ExecOutcome loader = describe_failure({ExecStep::interpreter, ENOENT, "/lib/ld\033[2J.so"}, command);
  CHECK(loader.launcher_code == 127);
  CHECK(loader.failure.starts_with("a.out: needs the loader /lib/ld?[2J.so, which"));
}

}  // namespace
}  // namespace minivm

#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/exec_guest.h"

using namespace minivm::test;

TEST_CASE("a program that ends by a signal is told from one that exits") {
  Guest guest;
  const Result result = Run(guest, shell("kill -SEGV $$")).finish();
  CHECK(result.exited.flags == Exited::by_signal);
  CHECK(result.exited.value == SIGSEGV);
}

TEST_CASE("a program that cannot be executed is told with the reason") {
  Guest guest;
  const auto fails_with = [&](const std::string& name, int error) {
    Run run(guest, {name});
    const ExecFailed failed = run.failed();
    CHECK(failed.step == ExecStep::execute);
    CHECK(failed.error == static_cast<std::uint32_t>(error));
  };
  fails_with("no-such-program", ENOENT);
  fails_with("/no/such/program", ENOENT);
  fails_with("", ENOENT);
  fails_with("/", EACCES);
  fails_with("/etc/passwd", EACCES);
  CHECK(Run(guest, {"true"}).finish().exited.value == 0);
}

TEST_CASE("a file without a known format is told as such and not given to a shell") {
  const std::string path = "/tmp/minivm-test-format-" + std::to_string(getpid());
  std::ofstream(path) << "echo no\n";
  chmod(path.c_str(), 0755);
  Guest guest;
  Run run(guest, {path});
  CHECK(run.failed().error == ENOEXEC);
  unlink(path.c_str());
}

TEST_CASE("the program is looked up in the request's own PATH") {
  Guest guest;
  Run::Options options;
  options.env = {"PATH=/nowhere"};
  Run missing(guest, {"cat"}, options);
  CHECK(missing.failed().error == ENOENT);
  options.env = {"PATH=/nowhere:/usr/bin:/bin"};
  CHECK(Run(guest, {"cat"}, options).finish("x").out == "x");
}

TEST_CASE("the environment is the request's, with what every program needs added") {
  Guest guest;
  Run::Options options;
  options.env = {"A=1", "HOME=/elsewhere"};
  const std::string out = Run(guest, {"env"}, options).finish().out;
  CHECK(out.find("A=1\n") == 0);
  CHECK(out.find("HOME=/elsewhere\n") != out.npos);
  CHECK(out.find("PATH=/usr/local/sbin:") != out.npos);
  CHECK(out.find("USER=root\n") != out.npos);
  CHECK(out.find("LOGNAME=root\n") != out.npos);
  CHECK(out.find("SHELL=/") != out.npos);
  CHECK(out.find("TERM=") == out.npos);
  CHECK(std::count(out.begin(), out.end(), '\n') == 6);
}

TEST_CASE("the directory is the request's, and one that is missing is told") {
  Guest guest;
  Run::Options options;
  options.directory = "/usr";
  CHECK(Run(guest, {"pwd"}, options).finish().out == "/usr\n");
  options.directory = "/no/such";
  const ExecFailed failed = Run(guest, {"pwd"}, options).failed();
  CHECK(failed.step == ExecStep::directory);
  CHECK(failed.error == ENOENT);
}

TEST_CASE("a user that does not exist is told before any stream is taken") {
  Guest guest;
  Exec fixed;
  fixed.user = "no-such-user";
  const ExecFailed failed = refused(guest, fixed, {"true"});
  CHECK(failed.step == ExecStep::user);
  CHECK(failed.error == ENOENT);
}

TEST_CASE("a program runs as the user it was asked for") {
  if (geteuid() != 0) {
    WARN("needs root to become another user");
    return;
  }
  Guest guest;
  Run::Options options;
  options.user = "daemon";
  const std::string out = Run(guest, shell("id -u; id -g; echo $USER; echo ok > /dev/stdout"), options).finish().out;
  CHECK(out == "1\n1\ndaemon\nok\n");
  options.user = "4711:4712";
  CHECK(Run(guest, shell("id -u; id -G"), options).finish().out == "4711\n4712\n");
}

TEST_CASE("the umask is the request's") {
  Guest guest;
  Run::Options options;
  CHECK(Run(guest, shell("umask"), options).finish().out == "0022\n");
  options.umask = 077;
  CHECK(Run(guest, shell("umask"), options).finish().out == "0077\n");
  CHECK(Run(guest, shell("umask")).finish().out == "0022\n");  // nobody else's
}

TEST_CASE("resource limits are the request's, and one that cannot be set is told") {
  Guest guest;
  Run::Options options;
  options.limits = {{RLIMIT_NOFILE, 100, 200}, {RLIMIT_CORE, 0, ResourceLimit::unlimited}};
  CHECK(Run(guest, shell("ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc"), options).finish().out ==
        "100\n200\n0\nunlimited\n");
  options.limits = {{RLIMIT_NOFILE, 200, 100}};
  const ExecFailed failed = Run(guest, {"true"}, options).failed();
  CHECK(failed.step == ExecStep::limits);
  CHECK(failed.error == EINVAL);
}

TEST_CASE("signals reach the whole process group") {
  Guest guest;
  Run run(guest, shell("sleep 1000 & wait"));
  run.started();
  guest.send(FrameType::signal, run.id(), Signal{SIGTERM});
  const Exited exited = run.exited();
  CHECK(exited.flags == Exited::by_signal);
  CHECK(exited.value == SIGTERM);
}

TEST_CASE("a signal that comes before the program runs is kept for it") {
  std::ifstream file("/bin/sleep", std::ios::binary);
  const std::string program{std::istreambuf_iterator<char>(file), {}};
  Guest guest;
  Listener listener(first_stream_port);
  Exec fixed;
  fixed.flags = Exec::upload;
  fixed.program_port = first_stream_port;
  fixed.program_size = program.size();
  const std::uint32_t id = guest.next_id();
  const Strings argv{"sleep", "1000"};
  guest.send(FrameType::exec, id, ExecRequest<Strings>{fixed, argv, {}});
  guest.send(FrameType::signal, id, Signal{SIGUSR2});
  guest.send(FrameType::exec, 99, Empty{});  // refused at once: what came before it was served
  CHECK(guest.receive(99).header.type == FrameType::exec_failed);
  write_all(listener.accept().get(), program);
  CHECK(guest.receive(id).header.type == FrameType::started);
  const auto exited = Exited::decode(Reader(guest.receive(id).payload));
  REQUIRE(exited);
  CHECK(exited->flags == Exited::by_signal);
  CHECK(exited->value == SIGUSR2);
}

TEST_CASE("an upload that ends early is told as such") {
  Guest guest;
  Listener listener(first_stream_port);
  Exec fixed;
  fixed.flags = Exec::upload;
  fixed.program_port = first_stream_port;
  fixed.program_size = 10;
  const std::uint32_t id = guest.next_id();
  guest.send(FrameType::exec, id, ExecRequest<Strings>{fixed, {"x"}, {}});
  write_all(listener.accept().get(), "123456789");
  const Answer answer = guest.receive(id);
  REQUIRE(answer.header.type == FrameType::exec_failed);
  CHECK(ExecFailed::decode(Reader(answer.payload))->step == ExecStep::upload);
}

TEST_CASE("no signal is blocked or ignored in a program") {
  Guest guest;
  const std::string out = Run(guest, {"cat", "/proc/self/status"}).finish().out;
  CHECK(out.find("SigBlk:\t0000000000000000") != out.npos);
}

TEST_CASE("the server lets others go first, and its programs do not") {
  Guest guest;
  CHECK(Run(guest, {"true"}).finish().exited.value == 0);
  CHECK(sched_getscheduler(guest.server()) == SCHED_BATCH);
  Run program(guest, {"sleep", "1000"});
  CHECK(sched_getscheduler(program.started()) == SCHED_OTHER);
  guest.send(FrameType::signal, program.id(), Signal{SIGKILL});
  program.exited();
}

TEST_CASE("a program inherits no descriptor but its three") {
  Guest guest;
  Run other(guest, {"sleep", "1000"});
  other.started();
  CHECK(Run(guest, shell("ls /proc/$$/fd")).finish().out == "0\n1\n2\n");
  guest.send(FrameType::signal, other.id(), Signal{SIGKILL});
  other.exited();
}

TEST_CASE("an uploaded program runs without being in any file") {
  std::ifstream file("/bin/echo", std::ios::binary);
  Guest guest;
  Run::Options options;
  options.flags = Exec::upload;
  options.program = {std::istreambuf_iterator<char>(file), {}};
  REQUIRE(options.program.size() > 4096);
  CHECK(Run(guest, {"whatever", "hello"}, options).finish().out == "hello\n");
}

TEST_CASE("an upload whose loader or library is missing is told which") {
  const std::string glibc = "/lib64/ld-linux-x86-64.so.2";
  std::ifstream file("/bin/echo", std::ios::binary);
  Guest guest;
  Run::Options options;
  options.flags = Exec::upload;
  options.program = {std::istreambuf_iterator<char>(file), {}};
  const auto missing = [&](std::string interpreter, Strings libraries, Strings env = {}) {
    options.interpreter = std::move(interpreter);
    options.libraries = std::move(libraries);
    options.env = std::move(env);
    Run run(guest, {"echo", "hello"}, options);
    const Answer answer = guest.receive(run.id());
    if (answer.header.type == FrameType::started) {
      run.exited();
      return std::string("nothing");
    }
    REQUIRE(answer.header.type == FrameType::exec_failed);
    const auto failed = ExecFailed::decode(Reader(answer.payload));
    REQUIRE(failed);
    return (failed->step == ExecStep::interpreter ? "loader " : "library ") + std::string(failed->object);
  };
  CHECK(missing("/lib/ld-none.so.1", {}) == "loader /lib/ld-none.so.1");
  CHECK(missing(glibc, {"libc.so.6", "libnone.so.7"}) == "library libnone.so.7");
  CHECK(missing(glibc, {"libc.so.6"}) == "nothing");
  // Where it cannot be sure, it leaves the judgement to the loader.
  CHECK(missing(glibc, {"/some/where/libnone.so"}) == "nothing");
  CHECK(missing(glibc, {"libnone.so.7"}, {"LD_LIBRARY_PATH=/opt"}) == "nothing");
  CHECK(missing("/bin/true", {"libnone.so.7"}) == "nothing");
}

TEST_CASE("an uploaded file that is no program is told with the reason") {
  Guest guest;
  Run::Options options;
  options.flags = Exec::upload;
  options.program = "neither ELF nor script";
  const ExecFailed failed = Run(guest, {"x"}, options).failed();
  CHECK(failed.step == ExecStep::execute);
  CHECK(failed.error == ENOEXEC);
}

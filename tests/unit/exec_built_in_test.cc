#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <string>

#include "copy/receiver.h"
#include "copy/sender.h"
#include "protocol/built_in.h"
#include "tests/exec_guest.h"
#include "tests/scratch_directory.h"

using namespace minivm::test;
namespace built_in = minivm::protocol::built_in;

namespace {

Run::Options options() {
  Run::Options options;
  options.flags = Exec::built_in;
  return options;
}

std::string name(std::string_view program) { return std::string(program); }

}  // namespace

TEST_CASE("what PID 1 brings along sends a tree, from a process of its own") {
  const ScratchDirectory directory;
  directory.run("mkdir -p tree/sub && seq 1 100000 >tree/sub/numbers && ln -s sub tree/link");
  Guest guest;
  Run run(guest, {name(built_in::send), directory.path("tree")}, options());
  CHECK(run.started() != guest.server());
  CHECK(minivm::copy::receive(run.out.get(), directory.path("copy").c_str(), {}, "") == 0);
  CHECK(read_to_end(run.err.get()).empty());
  CHECK(run.exited().value == 0);
  CHECK(directory.run("diff -r tree copy && readlink copy/link").output == "sub\n");
}

TEST_CASE("what PID 1 brings along receives a tree, and tells what it cannot make") {
  const ScratchDirectory directory;
  directory.run("mkdir -p tree/sub && seq 1 100000 >tree/sub/numbers");
  Guest guest;
  std::signal(SIGPIPE, SIG_IGN);  // the receiver may have ended before all is sent
  const auto send_to = [&](const std::string& destination) {
    Run run(guest, {name(built_in::receive), destination}, options());
    run.started();
    minivm::copy::send(directory.path("tree").c_str(), run.in.get(), "");
    shutdown(run.in.get(), SHUT_WR);
    std::string words = read_to_end(run.err.get());
    return std::pair(run.exited().value, words);
  };
  CHECK(send_to(directory.path("copy")) == std::pair(0U, std::string()));
  CHECK(directory.run("diff -r tree copy").status == 0);
  const std::string nowhere = directory.path("none/copy");
  CHECK(send_to(nowhere) == std::pair(1U, "minivm: cp: in the guest: " + nowhere + ": No such file or directory\n"));
}

TEST_CASE("a built-in program takes no upload, and one that is none ends at once") {
  Guest guest;
  Exec fixed;
  fixed.flags = Exec::built_in | Exec::upload;
  fixed.program_port = first_stream_port;
  fixed.program_size = 1;
  CHECK(refused(guest, fixed, {name(built_in::send), "/"}).step == ExecStep::request);
  Run run(guest, {"minivm-none", "/"}, options());
  run.started();
  CHECK(run.exited().value == 127);
}

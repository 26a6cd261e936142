#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <string>

#include "tests/exec_guest.h"

using namespace minivm::test;

TEST_CASE("a terminal echoes, has the size it was given and follows resizes") {
  Guest guest;
  Run::Options options;
  options.flags = Exec::tty;
  options.rows = 33;
  options.columns = 111;
  Run run(guest,
          shell("trap 'stty size; exit 7' WINCH; tty; stty size; echo go; read line; echo got $line; "
                "while :; do sleep 0.05; done"),
          options);
  run.started();
  CHECK(read_until(run.in.get(), "go\r\n").find("33 111\r\n") != std::string::npos);
  write_all(run.in.get(), "hello\n");
  const std::string reply = read_until(run.in.get(), "got hello\r\n");
  CHECK(reply.find("hello\r\ngot hello") != std::string::npos);  // the echo comes first
  guest.send(FrameType::resize, run.id(), Resize{44, 122});
  CHECK(read_to_end(run.in.get()) == "44 122\r\n");
  CHECK(run.exited().value == 7);
}

TEST_CASE("^C on a terminal interrupts the program") {
  Guest guest;
  Run::Options options;
  options.flags = Exec::tty;
  Run run(guest, shell("echo go; exec sleep 1000"), options);
  run.started();
  read_until(run.in.get(), "go\r\n");
  write_all(run.in.get(), "\x03");
  const Exited exited = run.exited();
  CHECK(exited.flags == Exited::by_signal);
  CHECK(exited.value == SIGINT);
}

TEST_CASE("the end of a terminal's input is an end of file for its program") {
  const std::string input = GENERATE("", "line\n", "part");
  Guest guest;
  Run::Options options;
  options.flags = Exec::tty;
  Run run(guest, shell("stty -echo; echo go; cat; echo done"), options);
  run.started();
  read_until(run.in.get(), "go\r\n");
  write_all(run.in.get(), input);
  shutdown(run.in.get(), SHUT_WR);
  CHECK(read_to_end(run.in.get()).find("done\r\n") != std::string::npos);
  CHECK(run.exited().value == 0);
}

TEST_CASE("the last output of a terminal's program is not lost") {
  Guest guest;
  Run::Options options;
  options.flags = Exec::tty;
  Run run(guest, shell("sleep 1000 & seq 1 3000; exit 2"), options);
  run.started();
  const std::string out = read_to_end(run.in.get());
  CHECK(out.substr(out.size() - 6) == "3000\r\n");
  CHECK(run.exited().value == 2);
}

TEST_CASE("a terminal that the host leaves hangs the program up") {
  Guest guest;
  Run::Options options;
  options.flags = Exec::tty;
  Run run(guest, {"sleep", "1000"}, options);
  run.started();
  run.in.reset();
  const Exited exited = run.exited();
  CHECK(exited.flags == Exited::by_signal);
  CHECK(exited.value == SIGHUP);
}

TEST_CASE("a terminal needs a stream") {
  Guest guest;
  Exec fixed;
  fixed.flags = Exec::tty;
  const ExecFailed failed = refused(guest, fixed, {"true"});
  CHECK(failed.step == ExecStep::request);
  CHECK(failed.error == EINVAL);
}

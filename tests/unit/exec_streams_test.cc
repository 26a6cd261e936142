#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "tests/exec_guest.h"

using namespace minivm::test;

TEST_CASE("a program's output arrives apart, with its exit code") {
  Guest guest;
  const Result result = Run(guest, shell("echo out; echo err >&2; exit 3")).finish();
  CHECK(result.out == "out\n");
  CHECK(result.err == "err\n");
  CHECK(result.exited.flags == 0);
  CHECK(result.exited.value == 3);
}

TEST_CASE("the end of stdin is a half-close: the program still answers") {
  Guest guest;
  const Result result = Run(guest, shell("cat; echo after")).finish("x");
  CHECK(result.out == "xafter\n");
  CHECK(result.exited.value == 0);
}

TEST_CASE("bytes of every size flow through unchanged") {
  const std::size_t size = GENERATE(as<std::size_t>{}, 0, 1, 4096, 65536, 65537, 64 * 1024 * 1024);
  Guest guest;
  const std::string input = pattern(size);
  const Result result = Run(guest, {"cat"}).finish(input);
  CHECK(result.out.size() == size);
  CHECK((result.out == input));
  CHECK(result.exited.value == 0);
}

TEST_CASE("the exit does not wait for a background process that holds the pipes") {
  Guest guest;
  Run run(guest, shell("sleep 1000 & echo $!; exit 5"));
  const Result result = run.finish();
  CHECK(result.exited.value == 5);
  const pid_t background = std::stoi(result.out);
  CHECK(kill(background, 0) == 0);
  kill(background, SIGKILL);
}

TEST_CASE("all output before the exit is sent, though the reader is slow") {
  Guest guest;
  Run run(guest, shell("head -c 300000 /dev/zero; echo end >&2; exit 3"));
  const std::string out = read_to_end(run.out.get());
  CHECK(out.size() == 300'000);
  run.started();
  CHECK(read_to_end(run.err.get()) == "end\n");
  CHECK(run.exited().value == 3);
}

TEST_CASE("a reader that pauses stops the writer, and only that one") {
  Guest guest;
  Run paused(guest, shell("head -c 8000000 /dev/zero"));
  const pid_t pid = paused.started();
  CHECK(Run(guest, {"echo", "other"}).finish().out == "other\n");
  CHECK(kill(pid, 0) == 0);
  CHECK(read_to_end(paused.out.get()).size() == 8'000'000);
  CHECK(paused.exited().value == 0);
}

TEST_CASE("a program that closes its stdin is not disturbed by more of it") {
  Guest guest;
  const Result result = Run(guest, shell("exec <&-; sleep 0.2; echo fine")).finish(pattern(1'000'000));
  CHECK(result.out == "fine\n");
  CHECK(result.exited.value == 0);
}

TEST_CASE("a writer whose reader left gets SIGPIPE") {
  Guest guest;
  Run run(guest, {"yes"});
  run.started();
  run.out.reset();
  const Exited exited = run.exited();
  CHECK(exited.flags == Exited::by_signal);
  CHECK(exited.value == SIGPIPE);
}

TEST_CASE("a reader that left is noticed while the program is silent") {
  Guest guest;
  // The pipe's only reader is the server; once it closes its end, poll says so without any write.
  Run run(guest, {"python3", "-c",
                  "import select; p = select.poll(); p.register(1, 0); print(p.poll(50000), file=2 "
                  "and __import__('sys').stderr)"});
  run.started();
  run.out.reset();
  CHECK(read_to_end(run.err.get()).find("(1, 8)") != std::string::npos);  // POLLERR
  CHECK(run.exited().value == 0);
}

TEST_CASE("streams without a port are /dev/null") {
  Guest guest;
  Exec fixed;
  const std::uint32_t id = guest.next_id();
  guest.send(FrameType::exec, id, ExecRequest<Strings>{fixed, shell("cat && echo lost && exit 4"), {}});
  CHECK(guest.receive(id).header.type == FrameType::started);
  CHECK(Exited::decode(Reader(guest.receive(id).payload))->value == 4);
}

TEST_CASE("/dev/stdout and /dev/stderr can be opened again") {
  Guest guest;
  const Result result = Run(guest, shell("echo a > /dev/stdout; echo b > /dev/stderr")).finish();
  CHECK(result.out == "a\n");
  CHECK(result.err == "b\n");
}

TEST_CASE("concurrent programs keep their streams apart") {
  Guest guest;
  std::vector<Run> runs;
  runs.reserve(24);
  for (int i = 0; i < 24; ++i) runs.emplace_back(guest, shell("cat; exit " + std::to_string(i)));
  std::vector<std::string> outs(runs.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    threads.emplace_back([&, i] {
      write_all(runs[i].in.get(), std::string(100'000, static_cast<char>('A' + i)));
      shutdown(runs[i].in.get(), SHUT_WR);
    });
    threads.emplace_back([&, i] { outs[i] = read_to_end(runs[i].out.get()); });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < runs.size(); ++i) {
    CHECK((outs[i] == std::string(100'000, static_cast<char>('A' + i))));
    runs[i].started();
    CHECK(runs[i].exited().value == i);
  }
}

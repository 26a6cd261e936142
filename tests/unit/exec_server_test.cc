#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

#include "tests/exec_guest.h"

using namespace minivm::test;

TEST_CASE("signals and resizes for an exec that is over are ignored") {
  Guest guest;
  Run run(guest, {"true"});
  run.finish();
  guest.send(FrameType::signal, run.id(), Signal{SIGKILL});
  guest.send(FrameType::signal, 999, Signal{77});
  guest.send(FrameType::resize, run.id(), Resize{1, 1});
  CHECK(Run(guest, {"true"}).finish().exited.flags == 0);
}

TEST_CASE("a port that nobody serves is told as such") {
  Guest guest;
  Exec fixed;
  fixed.stdout_port = 0xfff'ffff;
  const ExecFailed failed = refused(guest, fixed, {"true"});
  CHECK(failed.step == ExecStep::streams);
  CHECK(failed.error == ECONNREFUSED);
}

TEST_CASE("many programs run at once, and one too many is refused") {
  Guest guest;
  std::vector<std::uint32_t> ids;
  for (std::size_t i = 0; i < ExecServer::max_sessions; ++i) {
    ids.push_back(guest.next_id());
    guest.send(FrameType::exec, ids.back(), ExecRequest<Strings>{{}, {"sleep", "1000"}, {}});
  }
  for (const std::uint32_t id : ids) CHECK(guest.receive(id).header.type == FrameType::started);
  const ExecFailed failed = refused(guest, {}, {"true"});
  CHECK(failed.step == ExecStep::request);
  CHECK(failed.error == EAGAIN);
  for (const std::uint32_t id : ids) guest.send(FrameType::signal, id, Signal{SIGKILL});
  for (const std::uint32_t id : ids) CHECK(guest.receive(id).header.type == FrameType::exited);
  CHECK(Run(guest, {"true"}).finish().exited.value == 0);
}

TEST_CASE("hundreds of programs one after the other leave nothing behind") {
  Guest guest;
  const auto open_files = [&] {
    const std::string path = "/proc/" + std::to_string(guest.server()) + "/fd";
    return std::distance(std::filesystem::directory_iterator(path), {});
  };
  Run(guest, {"true"}).finish();
  const auto before = open_files();
  for (int i = 0; i < 300; ++i) REQUIRE(Run(guest, {"true"}).finish().exited.value == 0);
  CHECK(open_files() == before);
}

TEST_CASE("orphans are reaped") {
  Guest guest;
  const Result result = Run(guest, shell("sh -c 'sh -c \"sleep 0.1; exit 1\" & echo $!'")).finish();
  const pid_t orphan = std::stoi(result.out);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (kill(orphan, 0) == 0 && std::chrono::steady_clock::now() < deadline) Run(guest, {"true"}).finish();
  CHECK(kill(orphan, 0) != 0);
}

TEST_CASE("requests in pieces and requests in one go are the same") {
  Guest guest;
  std::array<std::byte, 512> buffer;
  const Strings argv = shell("exit 6");
  const auto frame = encode_frame(buffer, FrameType::exec, 5, ExecRequest<Strings>{{}, argv, {}});
  for (const std::byte& byte : frame) guest.send_raw({&byte, 1});
  CHECK(guest.receive(5).header.type == FrameType::started);
  CHECK(Exited::decode(Reader(guest.receive(5).payload))->value == 6);
}

TEST_CASE("a request as large as a frame may be is served") {
  Guest guest;
  const Strings argv{"sh", "-c", "echo ${#1}", "sh", std::string(120'000, 'x')};
  Strings env;
  for (int i = 0; i < 8; ++i) env.push_back("V" + std::to_string(i) + "=" + std::string(100'000, 'y'));
  Run::Options options;
  options.env = env;
  CHECK(Run(guest, argv, options).finish().out == "120000\n");
}

TEST_CASE("frames of unknown types are skipped") {
  Guest guest;
  guest.send(static_cast<FrameType>(4711), 1, Failed{"later", "version", 1});
  CHECK(Run(guest, {"true"}).finish().exited.value == 0);
}

TEST_CASE("an exec whose payload is broken is refused, not fatal") {
  Guest guest;
  guest.send(FrameType::exec, 9, Started{1});
  const Answer answer = guest.receive(9);
  REQUIRE(answer.header.type == FrameType::exec_failed);
  CHECK(ExecFailed::decode(Reader(answer.payload))->error == EBADMSG);
}

TEST_CASE("an argument with a NUL byte is refused") {
  Guest guest;
  CHECK(refused(guest, {}, {"true", std::string("a\0b", 3)}).error == EINVAL);
}

TEST_CASE("a frame beyond the limit ends the server") {
  Guest guest;
  std::array<std::byte, FrameHeader::size> bytes;
  Writer writer(bytes);
  FrameHeader{FrameHeader::max_payload + 1, FrameType::exec, 1}.encode(writer);
  guest.send_raw(bytes);
  CHECK(guest.end() == ExecServer::End::malformed_frame);
}

TEST_CASE("power_off ends the server") {
  Guest guest;
  guest.send(FrameType::power_off, 0, Empty{});
  CHECK(guest.end() == ExecServer::End::power_off);
}

TEST_CASE("the host going away ends the server") {
  Guest guest;
  guest.hang_up();
  CHECK(guest.end() == ExecServer::End::connection_lost);
}

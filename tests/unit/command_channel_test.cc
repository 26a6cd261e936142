#include "vmm/command_channel.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tests/channel_guest.h"

namespace minivm {
namespace {

using protocol::FrameType;
using test::ChannelGuest;
using test::guest_port;

TEST_CASE("A guest says hello, is welcomed with the time, and becomes ready") {
  ChannelGuest test;
  REQUIRE(test.guest.connect(guest_port, protocol::control_port));
  test.say(FrameType::hello, 0, protocol::Hello{});
  const auto frame = test.hear();
  REQUIRE(frame);
  const auto welcome = protocol::Welcome::decode(protocol::Reader(frame->payload));
  REQUIRE(welcome);
  CHECK(welcome->version == protocol::version);
  CHECK(welcome->realtime_ns > 1'600'000'000'000'000'000);
  CHECK(test.seen() == std::vector<std::string>{"hello"});
  test.say(FrameType::ready, 0, protocol::Ready{});
  CHECK(test.seen() == std::vector<std::string>{"hello", "ready"});
}

TEST_CASE("There is one control connection: another program of the guest is turned away") {
  ChannelGuest test;
  test.become_ready();
  CHECK_FALSE(test.guest.connect(guest_port + 1, protocol::control_port));
  test.exec({.argv = {"true"}});
  const auto frame = test.hear();
  REQUIRE(frame);  // the first one goes on
  CHECK(frame->header.type == FrameType::exec);
}

TEST_CASE("A second hello, or a second ready, ends the connection: answers must not pile up") {
  const auto repeated = GENERATE(FrameType::hello, FrameType::ready);
  ChannelGuest test;
  test.become_ready();
  if (repeated == FrameType::hello) test.say(repeated, 0, protocol::Hello{});
  if (repeated == FrameType::ready) test.say(repeated, 0, protocol::Ready{});
  CHECK_FALSE(test.hear());
  CHECK(test.seen() == std::vector<std::string>{"hello", "ready"});
}

TEST_CASE("The guest is told the time when asked for, but not while it does not listen") {
  ChannelGuest test;
  test.guest.on_loop([&] { test.channel->set_time(); });  // nobody is there yet
  test.become_ready();
  test.guest.on_loop([&] { test.channel->set_time(); });
  const auto frame = test.hear();
  REQUIRE(frame);
  CHECK(frame->header.type == FrameType::set_time);
  const auto message = protocol::SetTime::decode(protocol::Reader(frame->payload));
  REQUIRE(message);
  CHECK(message->realtime_ns > 1'600'000'000'000'000'000);
  // No credit: the first one waits, and no others pile up behind it.
  auto closed = test.guest.header(virtio::vsock::op_credit_update, guest_port, protocol::control_port);
  closed.buf_alloc = 0;
  test.guest.send(closed);
  test.guest.settle();
  test.guest.on_loop([&] {
    for (int i = 0; i < 1000; ++i) test.channel->set_time();
  });
  auto open = closed;
  open.buf_alloc = test::VsockGuest::buf_alloc;
  test.guest.send(open);
  const auto late = test.hear();
  REQUIRE(late);
  CHECK(late->header.type == FrameType::set_time);
  test.exec({.argv = {"true"}});
  const auto next = test.hear();
  REQUIRE(next);
  CHECK(next->header.type == FrameType::exec);
  // What was held back comes later, once.
  const auto last = test.hear();
  REQUIRE(last);
  CHECK(last->header.type == FrameType::set_time);
}

TEST_CASE("A guest of another protocol is told apart by number") {
  ChannelGuest test;
  REQUIRE(test.guest.connect(guest_port, protocol::control_port));
  test.say(FrameType::hello, 0, protocol::Hello{.version = 99});
  CHECK_FALSE(test.hear());
  const auto events = test.seen();
  REQUIRE_FALSE(events.empty());
  CHECK_THAT(events.front(), Catch::Contains("protocol 99"));
}

TEST_CASE("What keeps a guest from becoming ready is told with step, object and reason") {
  ChannelGuest test;
  REQUIRE(test.guest.connect(guest_port, protocol::control_port));
  test.say(FrameType::hello, 0, protocol::Hello{});
  REQUIRE(test.hear());
  test.say(FrameType::failed, 0, protocol::Failed{"mount", "/dev/vda (tried ext4)", EINVAL});
  CHECK(test.seen().back() == "guest: mount /dev/vda (tried ext4): Invalid argument");
}

TEST_CASE("A frame that is cut off inside ends the connection, and an unready guest with it") {
  ChannelGuest test;
  REQUIRE(test.guest.connect(guest_port, protocol::control_port));
  test.say(FrameType::hello, 0, protocol::Empty{});
  CHECK_FALSE(test.hear());
  CHECK(test.seen().size() == 1);
}

TEST_CASE("An exec carries its request, and ends with the guest's word") {
  ChannelGuest test;
  test.become_ready();
  const auto id = test.exec({.argv = {"prog", "a b"}, .env = {"K=V"}, .directory = "/tmp", .user = "nobody"});
  const auto frame = test.hear();
  REQUIRE(frame);
  CHECK(frame->header.type == FrameType::exec);
  CHECK(frame->header.id == id);
  const auto request = protocol::Exec::decode(protocol::Reader(frame->payload));
  REQUIRE(request);
  CHECK(request->directory == "/tmp");
  CHECK(request->user == "nobody");
  CHECK(request->stdin_port == 0);  // no stream was given: /dev/null there
  std::vector<std::string> words;
  request->argv.for_each([&](std::string_view word) { words.emplace_back(word); });
  request->env.for_each([&](std::string_view word) { words.emplace_back(word); });
  CHECK(words == std::vector<std::string>{"prog", "a b", "K=V"});

  test.say(FrameType::exited, id + 1, protocol::Exited{.value = 1});  // of no exec that there is
  CHECK(test.ended().empty());
  test.say(FrameType::exited, id, protocol::Exited{.value = 7});
  const auto outcomes = test.ended();
  REQUIRE(outcomes.size() == 1);
  REQUIRE(outcomes[0].status);
  CHECK(outcomes[0].status->code == 7);
  test.say(FrameType::exited, id, protocol::Exited{.value = 8});  // it is over
  CHECK(test.ended().size() == 1);
}

TEST_CASE("Frames of unknown types are skipped") {
  ChannelGuest test;
  test.become_ready();
  test.say(static_cast<FrameType>(999), 1, protocol::Resize{1, 2});
  test.exec({.argv = {"true"}});
  CHECK(test.hear());
}

TEST_CASE("A stream is dialled before its exec is asked for, and its data reach the caller's descriptor") {
  ChannelGuest test;
  test.become_ready();
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd out(ends[0]);
  CommandStreams streams;
  streams.output = HostFile(UniqueFd(ends[1]), HostFile::Direction::write);
  const auto id = test.exec({.argv = {"echo"}}, std::move(streams));
  const auto dialled = test.guest.receive();
  REQUIRE(dialled);
  CHECK(dialled->header.op == virtio::vsock::op_request);
  CHECK(dialled->header.dst_port == protocol::stream_port);
  const auto frame = test.hear();
  REQUIRE(frame);
  const auto request = protocol::Exec::decode(protocol::Reader(frame->payload));
  REQUIRE(request);
  CHECK(request->stdout_port == dialled->header.src_port);
  CHECK(request->stdin_port == 0);

  test.guest.accept(protocol::stream_port, request->stdout_port);
  test.guest.send(test.guest.header(virtio::vsock::op_rw, protocol::stream_port, request->stdout_port, 5), "words");
  test.say(FrameType::exited, id, protocol::Exited{});
  CHECK(test.ended().empty());  // not before its output is out
  test.guest.shutdown(protocol::stream_port, request->stdout_port,
                      virtio::vsock::shutdown_send | virtio::vsock::shutdown_receive);
  CHECK(test.ended().size() == 1);
  char text[16] = {};
  CHECK(::read(out.get(), text, sizeof text) == 5);
  CHECK(std::string(text) == "words");
  CHECK(::read(out.get(), text, sizeof text) == 0);
}

TEST_CASE("What the guest never takes of an exec's streams goes with the exec") {
  ChannelGuest test;
  test.become_ready();
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd in(ends[1]);
  CommandStreams streams;
  streams.input = HostFile(UniqueFd(ends[0]), HostFile::Direction::read);
  const auto id = test.exec({.argv = {"nothing"}}, std::move(streams));
  const auto dialled = test.guest.receive();
  REQUIRE(dialled);
  test.guest.accept(protocol::stream_port, dialled->header.src_port);
  REQUIRE(test.hear());
  test.say(FrameType::exec_failed, id, protocol::ExecFailed{protocol::ExecStep::user, ENOENT, {}});
  CHECK(test.ended().size() == 1);
  CHECK(test.guest.poll_op() == virtio::vsock::op_rst);
  pollfd reader{.fd = in.get(), .events = 0, .revents = 0};
  CHECK(::poll(&reader, 1, 0) == 1);  // nobody holds the other end
}

TEST_CASE("Execs that run when the channel is lost end as the launcher's failure") {
  ChannelGuest test;
  test.become_ready();
  test.exec({.argv = {"sleep"}});
  REQUIRE(test.hear());
  test.guest.send(test.guest.header(virtio::vsock::op_rst, guest_port, protocol::control_port));
  const auto outcomes = test.ended();
  REQUIRE(outcomes.size() == 1);
  CHECK_FALSE(outcomes[0].status);
  CHECK(outcomes[0].launcher_code == ExecOutcome::launcher_failed);
  CHECK_FALSE(outcomes[0].failure.empty());
}

TEST_CASE("A request that no frame can hold is refused, and the next one is served") {
  ChannelGuest test;
  test.become_ready();
  std::string reason;
  test.guest.on_loop([&] {
    try {
      test.channel->exec({.argv = {std::string(2 << 20, 'x')}}, {}, 24, 80, [](const ExecOutcome&) {});
    } catch (const std::runtime_error& error) {
      reason = error.what();
    }
  });
  CHECK_THAT(reason, Catch::Contains("more than 1024 KiB"));
  test.exec({.argv = {"true"}});
  CHECK(test.hear());
}

}  // namespace
}  // namespace minivm

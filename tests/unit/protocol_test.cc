#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "protocol/frame.h"
#include "protocol/guest_config.h"
#include "protocol/messages.h"
#include "protocol/wire.h"

using namespace minivm::protocol;

namespace {

using Strings = std::vector<std::string>;

std::span<const std::byte> bytes_of(std::span<const unsigned char> bytes) { return std::as_bytes(bytes); }

/// Encoded, then decoded from a copy of exactly that size, so that a sanitizer sees every byte too far.
template <typename Message>
struct RoundTrip {
  explicit RoundTrip(const auto& message) {
    std::array<std::byte, 8192> buffer{};
    Writer writer(buffer);
    message.encode(writer);
    REQUIRE(writer.ok());
    bytes.assign(writer.written().begin(), writer.written().end());
  }
  auto decode() const { return Message::decode(Reader(bytes)); }
  auto decode_first(std::size_t size) const {
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    return Message::decode(Reader(cut)).has_value();
  }

  std::vector<std::byte> bytes;
};

Strings collect(const StringList& list) {
  Strings strings;
  list.for_each([&](std::string_view text) { strings.emplace_back(text); });
  return strings;
}

RoundTrip<Exec> exec_round_trip(const Strings& argv, const Strings& env) {
  Exec fixed;
  fixed.flags = Exec::tty | Exec::upload;
  fixed.stdin_port = 0x10000;
  fixed.stdout_port = 0x10001;
  fixed.stderr_port = 0x10002;
  fixed.program_port = 0x10003;
  fixed.program_size = 0x1'0000'0001;
  fixed.rows = 24;
  fixed.columns = 80;
  fixed.user = "daemon:adm";
  fixed.directory = "/var/tmp";
  fixed.umask = 077;
  fixed.limits.add({7, 100, ResourceLimit::unlimited});
  fixed.interpreter = "/lib/ld.so";
  static const Strings libraries{"libc.so.6", "libm.so.6"};
  return RoundTrip<Exec>(ExecRequest<Strings>{fixed, argv, env, &libraries});
}

}  // namespace

TEST_CASE("values go out in little-endian order") {
  std::array<std::byte, 15> buffer{};
  Writer writer(buffer);
  writer.put(std::uint8_t{0x01});
  writer.put(std::uint16_t{0x0302});
  writer.put(std::uint32_t{0x07060504});
  writer.put(std::uint64_t{0x0f0e0d0c0b0a0908});
  REQUIRE(writer.ok());
  for (std::size_t i = 0; i < buffer.size(); ++i) CHECK(buffer[i] == static_cast<std::byte>(i + 1));

  Reader reader(buffer);
  CHECK(reader.get<std::uint8_t>() == 0x01);
  CHECK(reader.get<std::uint16_t>() == 0x0302);
  CHECK(reader.get<std::uint32_t>() == 0x07060504);
  CHECK(reader.get<std::uint64_t>() == 0x0f0e0d0c0b0a0908);
  CHECK(reader.left() == 0);
  CHECK(reader.ok());
}

TEST_CASE("a writer that is full leaves the rest out and stays failed") {
  std::array<std::byte, 6> buffer{};
  Writer writer(buffer);
  writer.put(std::uint32_t{1});
  writer.put(std::uint32_t{2});
  CHECK_FALSE(writer.ok());
  writer.put(std::uint8_t{3});  // would fit, but the message is broken already
  CHECK_FALSE(writer.ok());
  CHECK(writer.written().size() == 4);
}

TEST_CASE("a reader that ran short returns zeros and empty strings for good") {
  const unsigned char bytes[] = {1, 2, 3};
  Reader reader(bytes_of(bytes));
  CHECK(reader.get<std::uint32_t>() == 0);
  CHECK_FALSE(reader.ok());
  CHECK(reader.get<std::uint8_t>() == 0);
  CHECK(reader.get_string().empty());
  CHECK_FALSE(reader.ok());
}

TEST_CASE("a string whose length passes the buffer is refused") {
  const unsigned char bytes[] = {0xff, 0xff, 0xff, 0xff, 'a', 'b'};
  Reader reader(bytes_of(bytes));
  CHECK(reader.get_string().empty());
  CHECK_FALSE(reader.ok());
}

TEST_CASE("a frame is its header and its payload") {
  std::array<std::byte, 64> buffer{};
  const auto frame = encode_frame(buffer, FrameType::exited, 7, Exited{Exited::by_signal, 9});
  REQUIRE(frame.size() == FrameHeader::size + 8);
  const auto header = FrameHeader::decode(frame);
  REQUIRE(header);
  CHECK(header->length == 8);
  CHECK(header->type == FrameType::exited);
  CHECK(header->id == 7);
  const auto exited = Exited::decode(Reader(frame.subspan(FrameHeader::size)));
  REQUIRE(exited);
  CHECK(exited->flags == Exited::by_signal);
  CHECK(exited->value == 9);
}

TEST_CASE("a header that is cut off is no header") {
  std::array<std::byte, FrameHeader::size> buffer{};
  for (std::size_t size = 0; size < buffer.size(); ++size) {
    CHECK_FALSE(FrameHeader::decode(std::span(buffer).first(size)));
  }
  CHECK(FrameHeader::decode(buffer));
}

TEST_CASE("a frame that does not fit is empty, whatever part is too large") {
  std::array<std::byte, 64> buffer{};
  CHECK(encode_frame(std::span(buffer).first(FrameHeader::size - 1), FrameType::power_off, 0, Empty{}).empty());
  CHECK(encode_frame(std::span(buffer).first(FrameHeader::size), FrameType::started, 0, Started{1}).empty());
  CHECK(encode_frame(std::span(buffer).first(FrameHeader::size), FrameType::power_off, 0, Empty{}).size() ==
        FrameHeader::size);

  const std::string long_text(FrameHeader::max_payload, 'x');
  std::vector<std::byte> large(FrameHeader::size + FrameHeader::max_payload + 64);
  CHECK(encode_frame(large, FrameType::failed, 0, Failed{long_text, "", 0}).empty());
}

TEST_CASE("small messages survive the wire and are refused when cut off") {
  const RoundTrip<Hello> hello(Hello{3, 0x1122334455667788, 5});
  CHECK(hello.decode()->version == 3);
  CHECK(hello.decode()->init_started_ns == 0x1122334455667788);
  CHECK(hello.decode()->sent_ns == 5);

  const RoundTrip<Ready> ready(Ready{1, 2, 3, 4, 5});
  CHECK(ready.decode()->root_mounted_ns == 3);
  CHECK(ready.decode()->ready_ns == 4);
  CHECK(ready.decode()->welcomed_ns == 5);

  const RoundTrip<Failed> failed(Failed{"mount", "/dev/vda (tried ext4)", 22});
  CHECK(failed.decode()->step == "mount");
  CHECK(failed.decode()->object == "/dev/vda (tried ext4)");
  CHECK(failed.decode()->error == 22);

  const RoundTrip<Resize> resize(Resize{50, 132});
  CHECK(resize.decode()->rows == 50);
  CHECK(resize.decode()->columns == 132);

  for (std::size_t size = 0; size < hello.bytes.size(); ++size) CHECK_FALSE(hello.decode_first(size));
  for (std::size_t size = 0; size < ready.bytes.size(); ++size) CHECK_FALSE(ready.decode_first(size));
  for (std::size_t size = 0; size < failed.bytes.size(); ++size) CHECK_FALSE(failed.decode_first(size));
  for (std::size_t size = 0; size < resize.bytes.size(); ++size) CHECK_FALSE(resize.decode_first(size));
}

TEST_CASE("fields that a later version appends are ignored") {
  RoundTrip<Welcome> welcome(Welcome{1, 42});
  welcome.bytes.insert(welcome.bytes.end(), 16, std::byte{0xaa});
  REQUIRE(welcome.decode());
  CHECK(welcome.decode()->realtime_ns == 42);
}

TEST_CASE("an exec request carries its lists in order") {
  const Strings argv{"sh", "-c", "", "echo \"$0\"; exit 3"};
  const Strings env{"PATH=/bin", "EMPTY="};
  const auto request = exec_round_trip(argv, env);
  const auto exec = request.decode();
  REQUIRE(exec);
  CHECK(exec->flags == (Exec::tty | Exec::upload));
  CHECK(exec->program_port == 0x10003);
  CHECK(exec->program_size == 0x1'0000'0001);
  CHECK(exec->rows == 24);
  CHECK(exec->columns == 80);
  CHECK(exec->user == "daemon:adm");
  CHECK(exec->directory == "/var/tmp");
  CHECK(collect(exec->argv) == argv);
  CHECK(collect(exec->env) == env);
  CHECK(exec->umask == 077);
  REQUIRE(exec->limits.list().size() == 1);
  CHECK(exec->limits.list()[0].resource == 7);
  CHECK(exec->limits.list()[0].soft == 100);
  CHECK(exec->limits.list()[0].hard == ResourceLimit::unlimited);
  CHECK(exec->interpreter == "/lib/ld.so");
  CHECK(collect(exec->libraries) == Strings{"libc.so.6", "libm.so.6"});
}

// umask, one limit, the loader and two libraries.
constexpr std::size_t appended_size = 4 + (4 + 20) + (4 + 10) + (4 + 2 * (4 + 9));

TEST_CASE("an exec request is refused wherever it is cut off, but for where it once ended") {
  const auto request = exec_round_trip({"true", "argument"}, {"A=1"});
  for (std::size_t size = 0; size < request.bytes.size(); ++size) {
    INFO("cut at " << size);
    CHECK(request.decode_first(size) == (size == request.bytes.size() - appended_size));
  }
}

TEST_CASE("an exec request without what was appended later has the defaults") {
  auto request = exec_round_trip({"true"}, {});
  request.bytes.erase(request.bytes.end() - std::ptrdiff_t{appended_size}, request.bytes.end());
  const auto exec = request.decode();
  REQUIRE(exec);
  CHECK(exec->umask == 022);
  CHECK(exec->limits.list().empty());
  CHECK(exec->interpreter.empty());
  CHECK(exec->libraries.count() == 0);
}

TEST_CASE("more limits than there are resources are refused") {
  auto request = exec_round_trip({"true"}, {});
  request.bytes[request.bytes.size() - appended_size + 4] = std::byte{ResourceLimit::resources + 1};
  CHECK_FALSE(request.decode());
}

TEST_CASE("an exec request without a program is refused") { CHECK_FALSE(exec_round_trip({}, {"A=1"}).decode()); }

TEST_CASE("a count of strings beyond the payload is refused at once") {
  auto request = exec_round_trip({}, {});
  const std::size_t counts = request.bytes.size() - appended_size - 8;
  for (std::size_t i = 0; i < 4; ++i) request.bytes[counts + i] = std::byte{0xff};
  CHECK_FALSE(request.decode());
}

TEST_CASE("the guest's configuration survives the wire and is refused when cut off") {
  GuestConfig config;
  config.root = GuestConfig::Root::disk;
  config.flags = GuestConfig::overlay | GuestConfig::verbose;
  config.root_disk = "minivm-root";
  config.filesystems = "ext4,squashfs";
  config.hostname = "box";
  config.init = "/sbin/init";
  config.power_off_port = 0x600;
  config.power_off_value = 0x34;
  config.addresses = "10.0.2.15/24,fec0::15/64";
  config.gateways = "10.0.2.2";
  config.name_servers = "10.0.2.3";
  const RoundTrip<GuestConfig> trip(config);
  const auto decoded = trip.decode();
  REQUIRE(decoded);
  CHECK(decoded->root == GuestConfig::Root::disk);
  CHECK(decoded->flags == config.flags);
  CHECK(decoded->root_disk == config.root_disk);
  CHECK(decoded->filesystems == config.filesystems);
  CHECK(decoded->hostname == config.hostname);
  CHECK(decoded->init == config.init);
  CHECK(decoded->power_off_port == 0x600);
  CHECK(decoded->power_off_value == 0x34);
  CHECK(decoded->addresses == config.addresses);
  CHECK(decoded->gateways == config.gateways);
  CHECK(decoded->name_servers == config.name_servers);
  for (std::size_t size = 0; size < trip.bytes.size(); ++size) CHECK_FALSE(trip.decode_first(size));
}

TEST_CASE("decoders read no byte outside of random input") {
  std::mt19937 random(1);  // NOLINT: the same bytes each time
  std::uniform_int_distribution<int> byte(0, 255);
  std::uniform_int_distribution<std::size_t> length(0, 96);
  std::size_t strings = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::byte> bytes(length(random));
    // Half of the bytes are zero, so that lengths are small enough to lead deeper.
    for (std::byte& value : bytes) value = static_cast<std::byte>(byte(random) * (byte(random) & 1));
    const Reader reader(bytes);
    const auto inside = [&](std::string_view text) {
      if (text.empty()) return;
      ++strings;
      const auto* begin = reinterpret_cast<const char*>(bytes.data());
      REQUIRE((text.data() >= begin && text.data() + text.size() <= begin + bytes.size()));
    };
    if (const auto exec = Exec::decode(reader)) {
      inside(exec->user);
      exec->argv.for_each(inside);
      exec->env.for_each(inside);
      inside(exec->interpreter);
      exec->libraries.for_each(inside);
    }
    if (const auto failed = Failed::decode(reader)) {
      inside(failed->step);
      inside(failed->object);
    }
    if (const auto config = GuestConfig::decode(reader)) inside(config->init);
  }
  CHECK(strings > 0);
}

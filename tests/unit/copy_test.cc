#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "copy/receiver.h"
#include "copy/sender.h"
#include "tests/scratch_directory.h"

namespace minivm {
namespace {

using copy::ReceiverTrust;
using test::ScratchDirectory;
namespace wire = protocol::copy;
using wire::RecordType;

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    read.reset(ends[0]);
    write.reset(ends[1]);
  }
  UniqueFd read;
  UniqueFd write;
};

struct Codes {
  int sender = -1;
  int receiver = -1;
  bool operator==(const Codes&) const = default;
};

constexpr Codes both_fine{0, 0};

/// One copy, from the sender's end of a pipe to the receiver's.
Codes copy_over(const std::string& source, const std::string& destination, ReceiverTrust trust = {}) {
  std::signal(SIGPIPE, SIG_IGN);
  Pipe pipe;
  Codes codes;
  std::thread sender([&] {
    codes.sender = copy::send(source.c_str(), pipe.write.get(), "sender: ");
    pipe.write.reset();
  });
  codes.receiver = copy::receive(pipe.read.get(), destination.c_str(), trust, "receiver: ");
  pipe.read.reset();
  sender.join();
  return codes;
}

/// Everything that a copy keeps, one line for each name.
std::string listing(const ScratchDirectory& directory, const std::string& tree) {
  return directory
      .run("find " + tree + " -printf '%P %y %m %s %n %T@ %l\\n' | sort && cd " + tree +
           " && find . -type f -exec sha256sum {} + | sort -k 2")
      .output;
}

TEST_CASE("A tree arrives as it is: content, modes, times, links, holes") {
  const ScratchDirectory directory;
  REQUIRE(directory
              .run("mkdir -p tree/empty tree/deep/er tree/closed && echo hello >tree/file && : >tree/nothing &&"
                   "chmod 640 tree/file && chmod 755 tree/deep/er && ln -s ../file tree/deep/link && ln -s nowhere "
                   "tree/dangling &&"
                   "ln tree/file tree/deep/er/same && seq 1 200000 >tree/deep/large && touch -d '2001-02-03 "
                   "04:05:06.789' tree/file tree/empty &&"
                   "touch -h -d '1965-01-01' tree/dangling && truncate -s 8M tree/sparse && printf x | dd "
                   "of=tree/sparse bs=1 seek=5000000 conv=notrunc &&"
                   "truncate -s 1M tree/hole && chmod 500 tree/closed && touch \"$(printf 'tree/odd\\nname')\"")
              .status == 0);
  CHECK(copy_over(directory.path("tree"), directory.path("copy")) == both_fine);
  CHECK(listing(directory, "copy") == listing(directory, "tree"));
  CHECK(directory.run("cmp tree/sparse copy/sparse").status == 0);
  struct stat sparse {};
  REQUIRE(::stat(directory.path("copy/sparse").c_str(), &sparse) == 0);
  CHECK(sparse.st_blocks * 512 < 1 << 20);
  REQUIRE(::stat(directory.path("copy/hole").c_str(), &sparse) == 0);
  CHECK(sparse.st_blocks == 0);
  struct stat one {};
  struct stat other {};
  REQUIRE(::stat(directory.path("copy/file").c_str(), &one) == 0);
  REQUIRE(::stat(directory.path("copy/deep/er/same").c_str(), &other) == 0);
  CHECK(one.st_ino == other.st_ino);
}

TEST_CASE("Things go where docker puts them") {
  const ScratchDirectory directory;
  directory.run(
      "mkdir -p tree/sub there && echo 1 >tree/sub/one && echo f >file && echo old >taken && ln -s tree/sub link");
  const auto copied = [&](const std::string& source, const std::string& destination) {
    return copy_over(directory.path() + "/" + source, directory.path() + "/" + destination) == both_fine;
  };
  SECTION("a file to a new name") {
    CHECK(copied("file", "new"));
    CHECK(directory.read("new") == "f\n");
  }
  SECTION("a file over a file") {
    CHECK(copied("file", "taken"));
    CHECK(directory.read("taken") == "f\n");
  }
  SECTION("a file into a directory") {
    CHECK(copied("file", "there"));
    CHECK(copied("file", "there/"));
    CHECK(directory.read("there/file") == "f\n");
  }
  SECTION("a file to a directory that is not there") {
    CHECK_FALSE(copied("file", "none/"));
    CHECK_FALSE(copied("file", "none/new"));
  }
  SECTION("a directory to a new name") {
    CHECK(copied("tree", "new"));
    CHECK(directory.read("new/sub/one") == "1\n");
  }
  SECTION("a directory into one that is there, twice") {
    CHECK(copied("tree", "there"));
    CHECK(copied("tree/", "there/"));
    CHECK(directory.read("there/tree/sub/one") == "1\n");
  }
  SECTION("the contents of a directory into one that is there") {
    CHECK(copied("tree/.", "there"));
    CHECK(directory.read("there/sub/one") == "1\n");
  }
  SECTION("a directory over a file") {
    CHECK_FALSE(copied("tree", "taken"));
    CHECK(directory.read("taken") == "old\n");
  }
  SECTION("a link is copied as a link, and followed when a slash is behind it") {
    CHECK(copied("link", "there"));
    CHECK(std::filesystem::is_symlink(directory.path("there/link")));
    CHECK(copied("link/", "new"));
    CHECK(directory.read("new/one") == "1\n");
  }
  SECTION("over a link: the link is replaced, not what it leads to") {
    directory.run("ln -s ../taken there/file");
    CHECK(copied("file", "there"));
    CHECK(directory.read("taken") == "old\n");
    CHECK_FALSE(std::filesystem::is_symlink(directory.path("there/file")));
  }
  SECTION("a file over a directory of its name") {
    directory.run("mkdir there/file");
    CHECK_FALSE(copied("file", "there"));
  }
}

TEST_CASE("What is missing at the source is told, and nothing is made") {
  const ScratchDirectory directory;
  CHECK(copy_over(directory.path("none"), directory.path("copy")) == Codes{1, 1});
  CHECK_FALSE(std::filesystem::exists(directory.path("copy")));
}

TEST_CASE("A socket in a tree is left out, and the rest arrives") {
  const ScratchDirectory directory;
  directory.run("mkdir tree && mkfifo tree/pipe && echo x >tree/file");
  CHECK(copy_over(directory.path("tree"), directory.path("copy")) == both_fine);
  CHECK(directory.run("ls copy").output == "file\n");
  CHECK(copy_over(directory.path("tree/pipe"), directory.path("pipe")).sender == 1);
}

TEST_CASE("A tree deeper than descriptors go is told, not followed") {
  const ScratchDirectory directory;
  REQUIRE(directory.run("d=tree; for i in $(seq 1 300); do d=$d/d; done; mkdir -p $d").status == 0);
  CHECK(copy_over(directory.path("tree"), directory.path("copy")) == Codes{1, 0});
  CHECK(directory.run("find copy | wc -l").output == "256\n");
}

TEST_CASE("Set-ID bits and owners stay only with trust") {
  const ScratchDirectory directory;
  directory.run("echo x >file && chmod 6755 file");
  const auto mode_of = [&](const std::string& name) { return directory.run("stat -c %a " + name).output; };
  CHECK(copy_over(directory.path("file"), directory.path("plain")) == both_fine);
  CHECK(mode_of("plain") == "755\n");
  CHECK(copy_over(directory.path("file"), directory.path("kept"), {.set_id = true}) == both_fine);
  CHECK(mode_of("kept") == "6755\n");
  if (::geteuid() != 0) return;
  directory.run("chown 4711:4712 file");
  CHECK(copy_over(directory.path("file"), directory.path("ours")) == both_fine);
  CHECK(directory.run("stat -c %u:%g ours").output == "0:0\n");
  CHECK(copy_over(directory.path("file"), directory.path("theirs"), {.owners = true}) == both_fine);
  CHECK(directory.run("stat -c %u:%g theirs").output == "4711:4712\n");
}

/// A stream that an honest sender would not send.
class Forged {
 public:
  explicit Forged(std::uint32_t flags = 0) { put(RecordType::begin, wire::Begin{.flags = flags}); }

  template <typename Message>
  Forged& put(RecordType type, const Message& message) {
    std::array<std::byte, 16384> buffer{};
    protocol::Writer writer(buffer);
    message.encode(writer);
    return raw(type, writer.written());
  }
  Forged& put(RecordType type) { return raw(type, {}); }
  Forged& raw(RecordType type, std::span<const std::byte> payload) {
    std::array<std::byte, wire::RecordHeader::size> header{};
    protocol::Writer writer(header);
    wire::RecordHeader{static_cast<std::uint32_t>(payload.size()), type}.encode(writer);
    bytes.insert(bytes.end(), header.begin(), header.end());
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    return *this;
  }
  static wire::Entry entry(std::string_view name, std::string_view target = {}) {
    return {.mode = 0755, .name = name, .target = target};
  }
  Forged& directory(std::string_view name) { return put(RecordType::directory, entry(name)); }
  Forged& file(std::string_view name) {
    return put(RecordType::file, entry(name)).raw(RecordType::data, std::as_bytes(std::span("evil", 4)));
  }

  /// The receiver's exit code.
  int receive_to(const std::string& destination) const {
    Pipe pipe;
    std::thread writer([&] {
      [[maybe_unused]] const auto ignored = ::write(pipe.write.get(), bytes.data(), bytes.size());
      pipe.write.reset();
    });
    const int code = copy::receive(pipe.read.get(), destination.c_str(), {}, "receiver: ");
    writer.join();
    return code;
  }

  std::vector<std::byte> bytes;
};

TEST_CASE("No name leads out of the destination") {
  const ScratchDirectory directory;
  directory.run("mkdir in out");
  const std::string name = GENERATE(
      values<std::string>({"..", ".", "", "../out/x", "/tmp/x", "a/b", std::string("x\0y", 3), std::string(256, 'x')}));
  SECTION("of the topmost entry") {
    if (!name.empty())
      CHECK(Forged().file(name).put(RecordType::file_end).put(RecordType::end).receive_to(directory.path("in")) == 1);
  }
  SECTION("of an entry in it") {
    CHECK(Forged().directory("top").file(name).put(RecordType::file_end).receive_to(directory.path("in")) == 1);
  }
  SECTION("of a directory in it") {
    CHECK(Forged().directory("top").directory(name).receive_to(directory.path("in")) == 1);
  }
  SECTION("that a link goes to") {
    CHECK(
        Forged().directory("top").put(RecordType::link, Forged::entry("link", name)).receive_to(directory.path("in")) ==
        1);
    CHECK(Forged()
              .directory("top")
              .put(RecordType::link, Forged::entry("link", "sub/" + name))
              .receive_to(directory.path("in")) == 1);
  }
  CHECK(directory.run("find out in -name '[xab]*' -o -name link").output.empty());
}

TEST_CASE("A link that the sender has made is not followed") {
  const ScratchDirectory directory;
  directory.run("mkdir in out && echo mine >out/file");
  const auto begin = [&] {
    Forged stream;
    stream.directory("top").put(RecordType::symlink, Forged::entry("way", directory.path("out")));
    return stream;
  };
  CHECK(begin().directory("way").file("x").receive_to(directory.path("in")) == 1);
  CHECK(begin().put(RecordType::link, Forged::entry("again", "way/file")).receive_to(directory.path("in")) == 1);
  CHECK(directory.run("ls out").output == "file\n");
  // A file in the place of a link replaces the link.
  CHECK(Forged()
            .directory("top")
            .put(RecordType::symlink, Forged::entry("f", directory.path("out/file")))
            .file("f")
            .put(RecordType::file_end)
            .put(RecordType::leave)
            .put(RecordType::end)
            .receive_to(directory.path("in")) == 0);
  CHECK(directory.read("out/file") == "mine\n");
  CHECK(directory.read("in/top/f") == "evil");
}

TEST_CASE("A stream that makes no sense ends the copy") {
  const ScratchDirectory directory;
  const auto code = [&](const Forged& stream) { return stream.receive_to(directory.path("in")); };
  directory.run("mkdir in");
  CHECK(code(Forged()) == 1);                                 // cut off
  CHECK(code(Forged().directory("a")) == 1);                  // cut off
  CHECK(code(Forged().file("a").put(RecordType::end)) == 1);  // a file without its end
  CHECK(code(Forged().put(RecordType::leave)) == 1);
  CHECK(code(Forged().put(RecordType::data)) == 1);
  CHECK(code(Forged().put(RecordType::file_end)) == 1);
  CHECK(code(Forged().directory("a").put(RecordType::end)) == 1);                   // not left
  CHECK(code(Forged().directory("a").put(RecordType::leave).directory("b")) == 1);  // two tops
  CHECK(code(Forged().put(static_cast<RecordType>(99))) == 1);
  CHECK(code(Forged().put(RecordType::link, Forged::entry("a", "b"))) == 1);
  CHECK(code(Forged().put(RecordType::begin, wire::Begin{})) == 1);
  CHECK(code(Forged().raw(RecordType::file, std::as_bytes(std::span("short", 5)))) == 1);
  CHECK(code(Forged().file("a").put(RecordType::hole, wire::Hole{UINT64_MAX})) == 1);
  CHECK(code(Forged()
                 .file("a")
                 .put(RecordType::hole, wire::Hole{INT64_MAX - 4})
                 .raw(RecordType::data, std::as_bytes(std::span("x", 1)))) == 1);
  Forged wrong_version;
  wrong_version.bytes.clear();
  CHECK(code(wrong_version.put(RecordType::begin, wire::Begin{.version = 2})) == 1);
  Forged too_long;
  too_long.bytes.insert(too_long.bytes.end(), 4, std::byte{0xFF});
  too_long.bytes.insert(too_long.bytes.end(), 4, std::byte{});
  CHECK(code(too_long) == 1);
}

}  // namespace
}  // namespace minivm

#include <catch2/catch.hpp>

#include "boot/sha256.h"
#include "boot/unpack.h"
#include "tests/synthetic_kernel.h"

namespace minivm::boot {
namespace {

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string text(const Unpacked& unpacked) {
  return {reinterpret_cast<const char*>(unpacked.data.get()), unpacked.size};
}

// Larger than one block of lz4's (8 MiB) and lzop's (256 KiB); a part that packs and a part that does not.
const std::string& large_content() {
  static const std::string content = std::string(5 << 20, 'a') + test::noise(1 << 20, 3) + std::string(4 << 20, 'b');
  return content;
}

}  // namespace

TEST_CASE("what every packer made for a kernel is recognised and unpacked") {
  for (const auto& packer : test::all_packers()) {
    DYNAMIC_SECTION(packer.name) {
      const std::string packed = test::pack(large_content(), packer.command);
      const auto compression = recognise_compression(bytes(packed));
      REQUIRE(compression);
      CHECK(name(*compression) == packer.name);
      const auto unpacked = unpack(*compression, bytes(packed));
      REQUIRE(unpacked);
      CHECK(text(*unpacked) == large_content());
    }
  }
}

TEST_CASE("a damaged payload is refused by name") {
  for (const auto& packer : test::all_packers()) {
    const std::string packed = test::pack(test::noise(100'000, 5) + std::string(100'000, 'x'), packer.command);
    const auto refused = [&](const std::string& payload) {
      INFO(packer.name);
      const auto unpacked = unpack(*recognise_compression(bytes(packed)), bytes(payload));
      REQUIRE_FALSE(unpacked);
      CHECK(unpacked.error().starts_with("corrupt " + packer.name + " payload: "));
    };
    const auto with_size = [](std::string payload, std::size_t at, std::uint32_t size) {
      test::put(payload, at, size);
      return payload;
    };
    refused(with_size(packed.substr(0, packed.size() / 2), packed.size() / 2, 200'000));  // cut in the middle
    refused(with_size(packed, packed.size() - 4, 199'999));                               // says less than it holds
    refused(with_size(packed, packed.size() - 4, 200'001));                               // says more
    refused(packed.substr(0, 4) + packed.substr(0, 4));                                   // has no more than a magic
  }
}

TEST_CASE("no byte of a damaged payload makes a decompressor write too much") {
  for (const auto& packer : test::all_packers()) {
    const std::string packed = test::pack(test::noise(200, 5) + std::string(3'000, 'x'), packer.command);
    const Compression compression = *recognise_compression(bytes(packed));
    for (std::size_t i = 0; i + 4 < packed.size(); ++i) {
      std::string damaged = packed;
      damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
      // Some bytes do not matter, such as a time stamp: either outcome is good. The sanitizers judge the rest.
      const auto unpacked = unpack(compression, bytes(damaged));
      if (unpacked) CHECK(unpacked->size == 3'200);
    }
  }
}

TEST_CASE("a payload cannot ask for more memory than a kernel takes") {
  std::string packed = test::pack("kernel", "zstd -q");
  test::put(packed, packed.size() - 4, unpacked_limit + 1);
  CHECK(unpack(Compression::zstd, bytes(packed)).error() ==
        "corrupt zstd payload: says that it unpacks to 1073741825 bytes");
  CHECK(unpack(Compression::zstd, {}).error() == "corrupt zstd payload: 0 bytes long");
}

TEST_CASE("bytes that no packer begins with are not recognised") {
  CHECK_FALSE(
      recognise_compression(bytes("\x7f"
                                  "ELF")));
  CHECK_FALSE(recognise_compression(bytes("\x1f")));
  CHECK_FALSE(recognise_compression({}));
}

TEST_CASE("SHA-256 agrees with sha256sum around the padding's edges") {
  const test::ScratchDirectory scratch;
  for (const std::size_t size : {0U, 1U, 55U, 56U, 63U, 64U, 65U, 119U, 120U, 127U, 128U, 100'000U}) {
    const std::string content = test::noise(size, 9);
    scratch.write("content", content);
    CHECK(sha256(bytes(content)) == scratch.run("sha256sum content").output.substr(0, 64));
  }
}

}  // namespace minivm::boot

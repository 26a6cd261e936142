#include "boot/modules.h"

#include <catch2/catch.hpp>
#include <system_error>

#include "tests/scratch_directory.h"

namespace minivm {
namespace {

using boot::ModuleTree;
using Strings = std::vector<std::string>;

/// A tree with the kinds of names and dependencies that real ones have, as depmod writes it.
class SampleTree {
 public:
  SampleTree() {
    scratch_.write("1.2.3/modules.dep",
                   "kernel/drivers/virtio/virtio_mmio.ko.xz: kernel/drivers/virtio/virtio.ko.xz "
                   "kernel/drivers/virtio/virtio_ring.ko.xz\n"
                   "kernel/drivers/virtio/virtio.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz\n"
                   "kernel/drivers/virtio/virtio_ring.ko.xz:\n"
                   "kernel/drivers/char/hw_random/virtio-rng.ko.xz: kernel/drivers/virtio/virtio.ko.xz "
                   "kernel/drivers/virtio/virtio_ring.ko.xz\n"
                   "kernel/fs/ext4/ext4.ko.xz: kernel/fs/mbcache.ko.xz\n"
                   "kernel/fs/mbcache.ko.xz:\n"
                   "kernel/crypto/crc32c_generic.ko.xz:\n"
                   "kernel/arch/x86/crypto/crc32c-intel.ko.xz:\n"
                   "updates/dkms/other.ko:\n"
                   "kernel/lib/chicken.ko: kernel/lib/egg.ko\n"
                   "kernel/lib/egg.ko:\n");
    scratch_.write("1.2.3/modules.builtin", "kernel/fs/fuse/fuse.ko\nkernel/lib/crc-t10dif.ko\n");
    scratch_.write("1.2.3/modules.softdep",
                   "# Soft dependencies extracted from modules themselves.\n"
                   "softdep ext4 pre: crc32c nowhere post: other\n"
                   "softdep egg pre: chicken\n");
    scratch_.write("1.2.3/modules.alias",
                   "# Aliases extracted from modules themselves.\n"
                   "alias crypto-crc32c crc32c_generic\n"
                   "alias crc32c crc32c_generic\n"
                   "alias crc32c crc32c_intel\n"
                   "alias virtio:d00000004v* virtio_rng\n");
  }

  std::string directory() const { return scratch_.path("1.2.3"); }

  /// What `names` resolve to, without the directory.
  Strings resolve(const std::vector<std::string_view>& names) {
    missing.clear();
    Strings files = ModuleTree(directory()).resolve(names, missing);
    for (std::string& file : files) {
      REQUIRE(file.starts_with(directory() + "/"));
      file.erase(0, directory().size() + 1);
    }
    return files;
  }

  Strings missing;

 private:
  test::ScratchDirectory scratch_;
};

}  // namespace

TEST_CASE("modules come after what they depend on, none twice", "[modules]") {
  SampleTree tree;
  CHECK(tree.resolve({"virtio_mmio", "virtio_ring", "virtio_rng", "virtio_mmio"}) ==
        Strings{"kernel/drivers/virtio/virtio_ring.ko.xz", "kernel/drivers/virtio/virtio.ko.xz",
                "kernel/drivers/virtio/virtio_mmio.ko.xz", "kernel/drivers/char/hw_random/virtio-rng.ko.xz"});
  CHECK(tree.missing.empty());
}

TEST_CASE("module names may be spelled with - or _", "[modules]") {
  SampleTree tree;
  CHECK(tree.resolve({"virtio-mmio"}) == tree.resolve({"virtio_mmio"}));
  CHECK(tree.resolve({"virtio-rng"}) == tree.resolve({"virtio_rng"}));
  CHECK(tree.resolve({"virtio-rng"}).size() == 3);
}

TEST_CASE("built-in modules need no file and are not missing", "[modules]") {
  SampleTree tree;
  CHECK(tree.resolve({"fuse", "crc_t10dif", "other"}) == Strings{"updates/dkms/other.ko"});
  CHECK(tree.missing.empty());
}

TEST_CASE("names that the tree does not know are reported, the others resolved", "[modules]") {
  SampleTree tree;
  CHECK(tree.resolve({"nope", "virtio_ring", "virtio", "virtio_"}) ==
        Strings{"kernel/drivers/virtio/virtio_ring.ko.xz", "kernel/drivers/virtio/virtio.ko.xz"});
  CHECK(tree.missing == Strings{"nope", "virtio_"});
}

TEST_CASE("soft dependencies come first where the tree has them", "[modules]") {
  SampleTree tree;
  CHECK(tree.resolve({"ext4"}) == Strings{"kernel/fs/mbcache.ko.xz", "kernel/crypto/crc32c_generic.ko.xz",
                                          "kernel/arch/x86/crypto/crc32c-intel.ko.xz", "kernel/fs/ext4/ext4.ko.xz"});
  CHECK(tree.missing.empty());
}

TEST_CASE("a circle of dependencies ends", "[modules]") {
  SampleTree tree;
  CHECK(tree.resolve({"chicken"}) == Strings{"kernel/lib/egg.ko", "kernel/lib/chicken.ko"});
}

TEST_CASE("a tree with modules.dep alone is enough", "[modules]") {
  const test::ScratchDirectory scratch;
  scratch.write("modules.dep", "a.ko: /elsewhere/b.ko\n\nnonsense\n");
  Strings missing;
  const std::vector<std::string_view> names{"a", "c"};
  CHECK(ModuleTree(scratch.path() + "/").resolve(names, missing) == Strings{"/elsewhere/b.ko", scratch.path("a.ko")});
  CHECK(missing == Strings{"c"});
}

TEST_CASE("a directory without a usable modules.dep asks for depmod", "[modules]") {
  const test::ScratchDirectory scratch;
  const std::string expected = "modules " + scratch.path("6.1") + ": no modules.dep: run depmod 6.1";
  CHECK_THROWS_WITH(ModuleTree(scratch.path("6.1")), expected);
  CHECK_THROWS_WITH(ModuleTree(scratch.path("6.1/")), expected);
  scratch.write("6.1/modules.dep", "nonsense\n");
  CHECK_THROWS_WITH(ModuleTree(scratch.path("6.1")), Catch::Contains("no module in modules.dep"));
}

TEST_CASE("depmod's own output is understood", "[modules]") {
  const test::ScratchDirectory scratch;
  scratch.write("lib/modules/1.2.3/modules.order", "");
  scratch.write("lib/modules/1.2.3/modules.builtin", "kernel/a.ko\n");
  // An object file without symbols is module enough for depmod.
  scratch.write("lib/modules/1.2.3/kernel/empty.c", "");
  const auto built = scratch.run(
      "cc -c -o lib/modules/1.2.3/kernel/two-words.ko lib/modules/1.2.3/kernel/empty.c && "
      "PATH=$PATH:/usr/sbin:/sbin depmod -b . 1.2.3");
  INFO(built.output);
  REQUIRE(built.status == 0);
  Strings missing;
  const std::vector<std::string_view> names{"two_words", "a"};
  const std::string directory = scratch.path("lib/modules/1.2.3");
  CHECK(ModuleTree(directory).resolve(names, missing) == Strings{directory + "/kernel/two-words.ko"});
  CHECK(missing.empty());
}

TEST_CASE("modules are read as they are or unpacked, as the real tools pack them", "[modules]") {
  const test::ScratchDirectory scratch;
  std::string content =
      "\x7F"
      "ELF";
  for (unsigned i = 0; i < 50'000; ++i) content += static_cast<char>(i * i >> 3);
  scratch.write("m.ko", content);
  REQUIRE(scratch
              .run("xz -k --check=crc32 m.ko && zstd -q -k m.ko && gzip -k m.ko && "
                   "zstd -q -c < m.ko > unsized.ko.zst")
              .status == 0);
  for (const char* name : {"m.ko", "m.ko.xz", "m.ko.zst", "m.ko.gz", "unsized.ko.zst"}) {
    INFO(name);
    const auto bytes = ModuleTree::read(scratch.path(name));
    CHECK(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) == content);
  }
}

TEST_CASE("a damaged module is named", "[modules]") {
  const test::ScratchDirectory scratch;
  scratch.write("m.ko", std::string(10'000, 'm'));
  REQUIRE(scratch
              .run("xz -k m.ko && zstd -q -k m.ko && gzip -k m.ko && "
                   "for f in m.ko.xz m.ko.zst m.ko.gz; do truncate -s -7 $f; done")
              .status == 0);
  for (const char* name : {"m.ko.xz", "m.ko.zst", "m.ko.gz"}) {
    CHECK_THROWS_WITH(ModuleTree::read(scratch.path(name)), Catch::Contains(scratch.path(name)));
  }
  CHECK_THROWS_AS(ModuleTree::read(scratch.path("absent.ko")), std::system_error);
}

TEST_CASE("a module that unpacks to more than the limit is refused", "[modules]") {
  const test::ScratchDirectory scratch;
  REQUIRE(scratch
              .run("head -c 67108864 /dev/zero | gzip -1 > most.ko.gz && "
                   "head -c 67108865 /dev/zero | gzip -1 > bomb.ko.gz")
              .status == 0);
  CHECK(ModuleTree::read(scratch.path("most.ko.gz")).size() == ModuleTree::max_module_size);
  CHECK_THROWS_WITH(ModuleTree::read(scratch.path("bomb.ko.gz")), Catch::Contains("more than 67108864 bytes"));
  REQUIRE(scratch.run("truncate -s 67108865 large.ko").status == 0);
  CHECK_THROWS_WITH(ModuleTree::read(scratch.path("large.ko")), Catch::Contains("67108865 bytes, more than 67108864"));
}

}  // namespace minivm

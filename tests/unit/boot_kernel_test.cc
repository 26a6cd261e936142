#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "boot/kernel.h"
#include "boot/kernel_image.h"
#include "tests/synthetic_kernel.h"

namespace minivm::boot {
namespace {

using test::SyntheticBzImage;
using test::SyntheticElf;

class KernelFiles {
 public:
  Kernel open(const std::string& content, Kernel::Options options = {}) {
    if (options.cache_directory.empty()) options.cache_directory = scratch.path("cache");
    return Kernel::open(scratch.write("vmlinuz", content), options);
  }
  // The reason, without the "kernel PATH: " that every refusal must begin with.
  std::string refusal(const std::string& content) { return refusal_of(scratch.write("vmlinuz", content)); }
  std::string refusal_of(const std::string& path) {
    try {
      Kernel::open(path, {.cache_directory = scratch.path("cache")});
    } catch (const std::runtime_error& error) {
      const std::string message = error.what();
      const std::string begin = "kernel " + path + ": ";
      CHECK(message.starts_with(begin));
      CHECK(message.find('\n') == std::string::npos);
      return message.substr(begin.size());
    }
    return "not refused";
  }

  test::ScratchDirectory scratch;
};

setup_header changed(void (*change)(setup_header&)) {
  setup_header header = SyntheticBzImage::default_header();
  change(header);
  return header;
}

std::string with_header(void (*change)(setup_header&)) {
  return SyntheticBzImage{.payload = "payload that is not looked at", .header = changed(change)}.build();
}

}  // namespace

TEST_CASE("a bzImage of every compression is unpacked on the host") {
  KernelFiles files;
  const std::string vmlinux = test::sample_elf().build();
  for (const auto& packer : test::all_packers()) {
    DYNAMIC_SECTION(packer.name) {
      const Kernel kernel = files.open(SyntheticBzImage{.payload = test::pack(vmlinux, packer.command)}.build());
      CHECK(kernel.description() == "bzImage, " + packer.name + ", unpacked on the host");
      CHECK(kernel.release() == "6.9.1-sample");
      CHECK_FALSE(kernel.config());
      CHECK(kernel.image().segments.size() == 2);
      CHECK(raw(kernel.image().entry.address) == 0x100'0000);
      CHECK(kernel.image().end == 0x100'0000 + 0x40'0000);  // init_size, more than the segments
    }
  }
}

TEST_CASE("what the host cannot unpack is left to the kernel's own decompressor") {
  KernelFiles files;
  const auto entered_in_guest = [](const Kernel& kernel) {
    REQUIRE(kernel.image().segments.size() == 1);
    const Segment& segment = kernel.image().segments.front();
    CHECK(raw(segment.address) == 0x100'0000);
    CHECK(segment.memory_size == 0x40'0000);
    CHECK(segment.file_offset == 8 * 512);
    CHECK(raw(kernel.image().entry.address) == 0x100'0200);
    CHECK(kernel.release() == "6.9.1-sample");
  };
  SECTION("an unknown compression") {
    const Kernel kernel = files.open(SyntheticBzImage{.payload = test::noise(5000, 2)}.build());
    CHECK(kernel.description() == "bzImage, unpacked in the guest (unknown compression)");
    entered_in_guest(kernel);
  }
  SECTION("a payload that is no vmlinux") {
    const std::string packed = test::pack(test::noise(5000, 2), "zstd -q");
    const Kernel kernel = files.open(SyntheticBzImage{.payload = packed}.build());
    CHECK(kernel.description().starts_with("bzImage, unpacked in the guest (its payload: "));
    entered_in_guest(kernel);
  }
  SECTION("because the user wants it") {
    const Kernel kernel = files.open(test::sample_bzimage(), {.unpack_in_guest = true});
    CHECK(kernel.description() == "bzImage, unpacked in the guest (as asked)");
    entered_in_guest(kernel);
  }
}

TEST_CASE("an ELF kernel is taken as it is") {
  KernelFiles files;
  const Kernel kernel = files.open(test::sample_elf().build());
  CHECK(kernel.description() == "ELF, 64-bit entry");
  CHECK(kernel.release() == "6.9.1-sample");
  CHECK(kernel.image().end == 0x110'0010 + 30000);
  SyntheticElf movable = test::sample_elf();
  movable.type = ET_DYN;
  CHECK(files.open(movable.build()).image().segments.size() == 2);
}

TEST_CASE("PVH is used where the ELF entry point is not for a 64-bit start") {
  KernelFiles files;
  SyntheticElf elf = test::sample_elf();
  elf.pvh_entry = 0x100'0040;
  SECTION("Linux has both and keeps its 64-bit entry") {
    CHECK(files.open(elf.build()).description() == "ELF, 64-bit entry");
  }
  SECTION("a virtual entry point") {
    elf.entry = 0xFFFF'FFFF'8100'0000;
    const Kernel kernel = files.open(elf.build());
    CHECK(kernel.description() == "ELF, PVH entry");
    CHECK(raw(kernel.image().entry.address) == 0x100'0040);
  }
  SECTION("one entry point for both") {
    elf.entry = elf.pvh_entry;
    CHECK(files.open(elf.build()).description() == "ELF, PVH entry");
  }
  SECTION("a note that leads nowhere") {
    elf.entry = 0xFFFF'FFFF'8100'0000;
    elf.pvh_entry = 0x10;
    CHECK(
        files.refusal(elf.build()) ==
        "no 64-bit entry: the ELF entry point 0xffffffff81000000 lies in no segment, and there is no usable PVH note");
  }
}

TEST_CASE("the configuration comes from the option, the kernel itself, or the file beside it") {
  KernelFiles files;
  files.scratch.write("config", "CONFIG_FROM_PLAIN=y\n");
  CHECK(files.open(test::sample_bzimage()).config()->built_in("CONFIG_FROM_PLAIN"));
  files.scratch.write("config-6.9.1-sample", "CONFIG_FROM_RELEASE=y\n");
  CHECK(files.open(test::sample_bzimage()).config()->built_in("CONFIG_FROM_RELEASE"));

  SyntheticElf elf = test::sample_elf();
  const std::string packed = test::pack("CONFIG_FROM_INSIDE=y\n", "gzip -n");
  elf.pieces.push_back({0x120'0000, "IKCFG_ST but not yet; IKCFG_ST" + packed + "IKCFG_ED", 1000, 0});
  const std::string bzimage = SyntheticBzImage{.payload = test::pack(elf.build(), "lz4 -l -c")}.build();
  // Twice: the first call finds it in the image, the second one in the cache.
  for (int i = 0; i < 2; ++i) CHECK(files.open(bzimage).config()->built_in("CONFIG_FROM_INSIDE"));
  CHECK(files.open(elf.build()).config()->built_in("CONFIG_FROM_INSIDE"));

  const std::string option = files.scratch.write("mine", "CONFIG_FROM_OPTION=y\n");
  CHECK(files.open(bzimage, {.config_file = option}).config()->built_in("CONFIG_FROM_OPTION"));
  CHECK_THROWS_WITH(files.open(bzimage, {.config_file = "/nowhere/config"}),
                    "kernel configuration /nowhere/config: No such file or directory");
}

TEST_CASE("what is no readable file is refused") {
  KernelFiles files;
  CHECK(files.refusal_of("/nowhere/vmlinuz") == "No such file or directory");
  CHECK(files.refusal_of(files.scratch.path()) == "is a directory");
  CHECK(files.refusal_of("/dev/null") == "not a regular file");
  CHECK(files.refusal("") == "the file is empty");
  REQUIRE(::mkfifo(files.scratch.path("fifo").c_str(), 0600) == 0);
  CHECK(files.refusal_of(files.scratch.path("fifo")) == "not a regular file");
}

TEST_CASE("what is another kind of file is refused by its name") {
  KernelFiles files;
  const std::string filler(4096, '\0');
  const auto at = [&](std::size_t offset, const std::string& magic) {
    std::string content = "MZ" + filler;
    return content.replace(offset, magic.size(), magic);
  };
  CHECK(files.refusal(at(56, "ARM\x64")) == "wrong architecture: arm64 (Image)");
  CHECK(files.refusal(at(56, "RSC\x05")) == "wrong architecture: riscv (Image)");
  CHECK(files.refusal(at(36, "\x18\x28\x6f\x01")) == "wrong architecture: 32-bit arm (zImage)");
  CHECK(files.refusal(at(4, "zimg")) == "an EFI zboot image: extract the kernel from it first");
  CHECK(files.refusal("MZ" + filler) == "a PE program without a Linux setup header");
  CHECK(files.refusal("#!/bin/sh\nexit\n") == "a script, not a kernel");
  CHECK(files.refusal(test::pack(test::sample_elf().build(), "gzip -n")) == "a gzip file: unpack it first");
  CHECK(files.refusal(test::pack(test::sample_elf().build(), "xz")) == "an xz file: unpack it first");
  CHECK(files.refusal("kernel") == "neither a bzImage nor an ELF vmlinux");
  CHECK(files.refusal(filler) == "neither a bzImage nor an ELF vmlinux");
}

TEST_CASE("an ELF file that cannot be started is refused with the reason") {
  KernelFiles files;
  SyntheticElf elf = test::sample_elf();
  SECTION("other machines") {
    elf.machine = EM_AARCH64;
    CHECK(files.refusal(elf.build()) == "wrong architecture: arm64 (ELF)");
    elf.machine = EM_386;
    CHECK(files.refusal(elf.build()) == "wrong architecture: 32-bit x86 (ELF)");
    elf.machine = 0x1234;
    CHECK(files.refusal(elf.build()) == "wrong architecture: machine 4660 (ELF)");
    elf.machine = __builtin_bswap16(EM_S390);
    std::string big_endian = elf.build();
    big_endian[EI_DATA] = ELFDATA2MSB;
    CHECK(files.refusal(big_endian) == "wrong architecture: s390 (ELF, big-endian)");
  }
  SECTION("no program") {
    elf.type = ET_REL;
    CHECK(files.refusal(elf.build()) == "not an ELF executable, but of type 1");
    elf = {.pieces = {}, .entry = 0};
    CHECK(files.refusal(elf.build()) == "nothing to load: no PT_LOAD program header");
  }
  SECTION("no usable entry") {
    elf.entry = 0x200;
    CHECK(files.refusal(elf.build()) ==
          "no 64-bit entry: the ELF entry point 0x200 lies in no segment, and there is no PVH note");
  }
  SECTION("segments in impossible places") {
    elf.pieces[1].address = 0xF'0000;
    CHECK(files.refusal(elf.build()) == "the segment at 0xf0000 lies below 1 MiB");
    elf.pieces[1].address = ~std::uint64_t{0xFFF};
    CHECK(files.refusal(elf.build()) == "the segment at 0xfffffffffffff000 of 30000 bytes lies above 4 GiB");
    elf.pieces[1].address = 0x110'0000;
    elf.pieces[1].memory_size = 10;
    CHECK(files.refusal(elf.build()) == "bad segment at 0x1100000: 9000 bytes in the file, 10 in memory");
  }
  SECTION("a cut file") {
    const std::string whole = elf.build();
    CHECK(files.refusal(whole.substr(0, 20)) == "truncated: no whole ELF header");
    CHECK(files.refusal(whole.substr(0, 100)) == "truncated: the ELF program headers lie outside the file");
    CHECK(files.refusal(whole.substr(0, 10000)).starts_with("truncated: the segment at 0x1000000 ends at byte "));
    // No cut crashes, and none passes that loses a byte of a segment.
    for (std::size_t size = 1; size < whole.size() - 4096 - 100; size += 97) {
      CHECK(files.refusal(whole.substr(0, size)) != "not refused");
    }
  }
}

TEST_CASE("a bzImage that cannot be started is refused with the reason") {
  KernelFiles files;
  CHECK(files.refusal(with_header([](setup_header& header) { header.version = 0x020B; })) ==
        "no 64-bit entry: boot protocol 2.11, 2.12 is needed");
  CHECK(files.refusal(with_header([](setup_header& header) { header.xloadflags = 0; })) ==
        "no 64-bit entry: a 32-bit kernel (XLF_KERNEL_64 is not set)");
  CHECK(files.refusal(with_header([](setup_header& header) { header.loadflags = 0; })) ==
        "a zImage, which loads below 1 MiB (LOADED_HIGH is not set)");
  CHECK(files.refusal(with_header([](setup_header& header) { header.pref_address = 0x1000; })) ==
        "bad setup header: preferred address 0x1000");
  CHECK(files.refusal(with_header([](setup_header& header) { header.init_size = 0; })) ==
        "bad setup header: init_size is 0");
  CHECK(files.refusal(with_header([](setup_header& header) { header.init_size = 16; })) ==
        "bad setup header: init_size 16 is less than the 736 bytes of code");
  CHECK(files.refusal(with_header([](setup_header& header) { header.payload_length = 0xFFFF'FFFF; })) ==
        "truncated: the payload ends at byte 4294972095, the file at 4832");
  CHECK(files.refusal(with_header([](setup_header& header) { header.syssize = 0x1000; })) ==
        "truncated: 69632 bytes expected, the file has 4832");
}

TEST_CASE("a damaged bzImage is refused, not started") {
  KernelFiles files;
  const std::string whole = test::sample_bzimage();
  for (std::size_t size = 1; size < whole.size() - 16; size += 97) {
    CHECK(files.refusal(whole.substr(0, size)) != "not refused");
  }
  // gzip, since lz4's legacy frame has no checksum to notice a changed byte by.
  std::string corrupt = SyntheticBzImage{.payload = test::pack(test::sample_elf().build(), "gzip -n")}.build();
  corrupt.replace(corrupt.size() / 2, 64, std::string(64, '\xFF'));
  CHECK(files.refusal(corrupt).starts_with("corrupt gzip payload: does not unpack to its "));
}

}  // namespace minivm::boot

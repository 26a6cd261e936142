#include <asm/bootparam.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "boot/boot.h"
#include "boot/kernel_image.h"
#include "boot/layout.h"
#include "tests/sample_platform.h"
#include "tests/synthetic_kernel.h"

namespace minivm::boot {
namespace {

using Catch::Matchers::EndsWith;
constexpr std::uint64_t mebibyte = 1U << 20;
constexpr std::uint64_t gibibyte = 1U << 30;

// One boot into fresh memory.
class Loaded {
 public:
  explicit Loaded(const std::string& kernel_file, std::uint64_t memory_size = 64 * mebibyte,
                  std::size_t initramfs_content = 0, std::string command_line = "quiet",
                  Discovery discovery = Discovery::automatic, bool in_guest = false)
      : memory(memory_size),
        kernel(Kernel::open(scratch_.write("kernel", kernel_file),
                            {.cache_directory = scratch_.path("cache"), .unpack_in_guest = in_guest})) {
    if (initramfs_content > 0) {
      initramfs.add_file("content", 0644, std::vector<std::byte>(initramfs_content, std::byte{0xAB}));
    }
    state = load(memory, {kernel, initramfs, platform, std::move(command_line), discovery});
  }

  std::string at(std::uint64_t address, std::uint64_t size) const {
    const auto slice = memory.slice(Gpa{address}, size);
    REQUIRE(slice);
    return {reinterpret_cast<const char*>(slice->data()), slice->size()};
  }
  std::string text_at(Gpa address) const { return at(raw(address), 4096).c_str(); }
  template <typename T>
  T value(Gpa address) const {
    return *memory.read<T>(address);
  }
  boot_params zero_page() const { return value<boot_params>(layout::boot_params); }

 private:
  test::ScratchDirectory scratch_;

 public:
  GuestMemory memory;
  Platform platform = test::sample_platform(2, 3);
  Kernel kernel;
  Initramfs initramfs;
  CpuState state;
};

// The pieces as the kernel must find them: content, then zeros up to the next page and beyond.
void check_pieces(const Loaded& loaded, const test::SyntheticElf& elf) {
  for (const auto& piece : elf.pieces) {
    CHECK(loaded.at(piece.address, piece.content.size()) == piece.content);
    const std::string beyond = loaded.at(piece.address + piece.content.size(), 8192);
    CHECK(std::ranges::all_of(beyond, [](char byte) { return byte == 0; }));
    const std::string before = loaded.at(piece.address - 16, 16);
    CHECK(std::ranges::all_of(before, [](char byte) { return byte == 0; }));
  }
}

struct SetupData {
  std::uint32_t type;
  std::string data;
};
std::vector<SetupData> setup_data_of(const Loaded& loaded) {
  std::vector<SetupData> list;
  for (std::uint64_t at = loaded.zero_page().hdr.setup_data; at != 0;) {
    CHECK(at % 8 == 0);
    const auto node = test::get<setup_data>(loaded.at(at, sizeof(setup_data)));
    list.push_back({node.type, loaded.at(at + sizeof(setup_data), node.len)});
    at = node.next;
  }
  return list;
}

using E820 = std::vector<std::array<std::uint64_t, 3>>;
E820 e820_of(std::uint64_t memory_size) {
  const Loaded loaded(test::sample_elf().build(), memory_size);
  const boot_params zero_page = loaded.zero_page();
  E820 map;
  for (std::size_t i = 0; i < zero_page.e820_entries; ++i) {
    boot_e820_entry entry;
    std::memcpy(&entry,
                reinterpret_cast<const char*>(&zero_page) + offsetof(boot_params, e820_table) + i * sizeof entry,
                sizeof entry);
    map.push_back({entry.addr, entry.size, entry.type});
  }
  return map;
}

std::uint64_t mapped_to(const Loaded& loaded, std::uint64_t address) {
  const auto entry = [&](std::uint64_t table, std::uint64_t index) {
    return loaded.value<std::uint64_t>(Gpa{(table & ~std::uint64_t{0xFFF}) + 8 * index});
  };
  const std::uint64_t pointers = entry(loaded.state.cr3, address >> 39);
  const std::uint64_t directory = entry(pointers, (address >> 30) & 511);
  const std::uint64_t page = entry(directory, (address >> 21) & 511);
  CHECK((pointers & 0xFFF) == 3);
  CHECK((directory & 0xFFF) == 3);
  CHECK((page & 0xFFF) == 0x83);
  return (page & ~std::uint64_t{0x1F'FFFF}) | (address & 0x1F'FFFF);
}

}  // namespace

TEST_CASE("the kernel's pieces land at their addresses and nothing of the file beside them") {
  test::SyntheticElf elf = test::sample_elf();
  SECTION("an ELF file") { check_pieces(Loaded(elf.build()), elf); }
  SECTION("an ELF file whose pages do not line up") {
    elf.pieces[0].misalignment = 8;
    elf.pieces[1].misalignment = 2048;
    check_pieces(Loaded(elf.build()), elf);
  }
  SECTION("pieces of less than a page, and of whole pages") {
    elf.pieces[1].content.resize(100);
    elf.pieces.push_back({0x120'0000, test::noise(8192, 4), 8192, 0});
    elf.pieces.push_back({0x130'0FF0, test::noise(32, 4), 32, 0});
    check_pieces(Loaded(elf.build()), elf);
  }
  SECTION("an unpacked bzImage") { check_pieces(Loaded(test::sample_bzimage()), elf); }
  SECTION("more than is copied") {
    elf.pieces = {{0x100'0000, test::noise(21 * mebibyte, 4), 22 * mebibyte, 0}};
    check_pieces(Loaded(elf.build()), elf);
  }
}

TEST_CASE("a bzImage that unpacks itself lies at its preferred address") {
  for (const std::uint8_t sectors :
       {std::uint8_t{7}, std::uint8_t{8}}) {  // the code begins at a page of the file, or does not
    const std::string file =
        test::SyntheticBzImage{.payload = test::noise(20'000, 2), .setup_sectors = sectors}.build();
    const Loaded loaded(file);
    const std::string code = file.substr((sectors + 1U) * 512);
    CHECK(loaded.at(0x100'0000, code.size()) == code);
    CHECK(loaded.state.rip == 0x100'0200);
  }
}

TEST_CASE("guest writes to the kernel do not reach its file") {
  const Loaded loaded(test::sample_bzimage());
  loaded.memory.write(Gpa{0x100'0000}, std::uint64_t{0});
  std::uint64_t in_file = 0;
  const Kernel::Image& image = loaded.kernel.image();
  REQUIRE(::pread(image.file.get(), &in_file, 8, static_cast<off_t>(image.segments[0].file_offset)) == 8);
  CHECK(in_file != 0);
}

TEST_CASE("the first vCPU starts as the 64-bit boot protocol wants") {
  const Loaded loaded(test::sample_elf().build());
  CHECK(loaded.state.mode == CpuState::Mode::long_mode);
  CHECK(loaded.state.rip == 0x100'0000);
  CHECK(loaded.state.rsi == raw(layout::boot_params));
  CHECK(loaded.state.gdt_limit == 31);
  CHECK(loaded.value<std::uint64_t>(loaded.state.gdt + 0x10) == 0x00AF'9B00'0000'FFFF);
  CHECK(loaded.value<std::uint64_t>(loaded.state.gdt + 0x18) == 0x00CF'9300'0000'FFFF);
  for (const std::uint64_t address :
       {0ULL, 0x100'0123ULL, 0x3FFF'FFFFULL, 0x4000'0000ULL, 0xC000'0000ULL, 0xFFFF'FFFFULL}) {
    CHECK(mapped_to(loaded, address) == address);
  }
}

TEST_CASE("boot_params keep the kernel's own header and name what was loaded") {
  const Loaded loaded(test::sample_bzimage(), 64 * mebibyte, 10'000);
  const boot_params zero_page = loaded.zero_page();
  CHECK(zero_page.hdr.init_size == 0x40'0000U);
  CHECK(zero_page.hdr.version == 0x020F);
  CHECK(zero_page.hdr.type_of_loader == 0xFF);
  CHECK(zero_page.sentinel == 0);
  CHECK(zero_page.acpi_rsdp_addr == raw(layout::acpi));
  CHECK(loaded.at(raw(layout::acpi), 8) == "RSD PTR ");
  CHECK(zero_page.hdr.cmd_line_ptr == raw(layout::command_line));
  CHECK(loaded.text_at(layout::command_line) == "quiet");
  CHECK(zero_page.hdr.ramdisk_size == loaded.initramfs.size());
  CHECK(loaded.at(zero_page.hdr.ramdisk_image, 6) == "070701");

  const boot_params of_elf = Loaded(test::sample_elf().build()).zero_page();
  CHECK(of_elf.hdr.boot_flag == 0xAA55);
  CHECK(of_elf.hdr.header == 0x5372'6448U);
  CHECK(of_elf.hdr.type_of_loader == 0xFF);
}

TEST_CASE("every boot gets random bytes of its own") {
  const auto first = setup_data_of(Loaded(test::sample_elf().build()));
  const auto second = setup_data_of(Loaded(test::sample_elf().build()));
  REQUIRE(first.size() == 1);
  REQUIRE(second.size() == 1);
  CHECK(first[0].type == SETUP_RNG_SEED);
  CHECK(first[0].data.size() == 32);
  CHECK(first[0].data != second[0].data);
}

TEST_CASE("the memory map leaves out the device hole and what firmware keeps") {
  const E820 low{{0, 0x9'FC00, 1}, {0xE'0000, 0x2'0000, 2}};
  const auto with = [&](const E820& high) {
    E820 map = low;
    map.insert(map.end(), high.begin(), high.end());
    return map;
  };
  CHECK(e820_of(512 * mebibyte) == with({{mebibyte, 511 * mebibyte, 1}}));
  CHECK(e820_of(3 * gibibyte) == with({{mebibyte, 3 * gibibyte - mebibyte, 1}}));
  CHECK(e820_of(3584 * mebibyte) == with({{mebibyte, 3 * gibibyte - mebibyte, 1}, {4 * gibibyte, 512 * mebibyte, 1}}));
  CHECK(e820_of(8 * gibibyte) == with({{mebibyte, 3 * gibibyte - mebibyte, 1}, {4 * gibibyte, 5 * gibibyte, 1}}));
}

TEST_CASE("the initramfs lies as high as the kernel and the device hole allow") {
  const auto end_of = [](std::uint64_t memory_size) {
    const Loaded loaded(test::sample_elf().build(), memory_size, 10'000);
    const auto header = loaded.zero_page().hdr;
    CHECK(header.ramdisk_image % 4096 == 0);
    return header.ramdisk_image + (std::uint64_t{header.ramdisk_size} + 4095) / 4096 * 4096;
  };
  CHECK(end_of(64 * mebibyte) == 64 * mebibyte);
  CHECK(end_of(2 * gibibyte) == 2 * gibibyte);
  CHECK(end_of(8 * gibibyte) == 2 * gibibyte);  // initrd_addr_max
}

TEST_CASE("what does not fit is refused with both sizes") {
  const std::string elf = test::sample_elf().build();
  CHECK_THROWS_WITH(Loaded(elf, 16 * mebibyte), EndsWith("kernel: needs 18 MiB, the guest has 16 MiB"));
  CHECK_THROWS_WITH(Loaded(elf, 18 * mebibyte, mebibyte),
                    Catch::Contains("initrd: 104") &&
                        EndsWith("bytes do not fit between the kernel's end at 0x1108000 and 0x1200000"));
  CHECK_NOTHROW(Loaded(elf, 64 * mebibyte, 0, std::string(2047, 'a')));
  CHECK_THROWS_WITH(Loaded(elf, 64 * mebibyte, 0, std::string(2048, 'a')),
                    "command line: 2048 bytes, the kernel takes at most 2047");

  test::SyntheticElf high = test::sample_elf();
  high.pieces[1].address = 3 * gibibyte;
  CHECK_THROWS_WITH(Loaded(high.build(), 4 * gibibyte),
                    EndsWith("kernel: needs 3073 MiB, the guest has 3072 MiB below the device hole"));
}

TEST_CASE("devices are announced in one place only") {
  const std::string elf = test::sample_elf().build();
  const auto acpi_of = [](const Loaded& loaded) { return loaded.at(raw(layout::acpi), layout::acpi_size); };
  const std::string acpi_name = "LNRO0005";
  SECTION("ACPI") {
    const Loaded loaded(elf);
    CHECK(acpi_of(loaded).find(acpi_name) != std::string::npos);
    CHECK(loaded.text_at(layout::command_line) == "quiet");
  }
  SECTION("a device tree, without ACPI") {
    const Loaded loaded(elf, 64 * mebibyte, 0, "quiet", Discovery::fdt);
    const auto list = setup_data_of(loaded);
    REQUIRE(list.size() == 2);
    CHECK(list[0].type == SETUP_DTB);
    CHECK(list[0].data.starts_with("\xD0\x0D\xFE\xED"));
    CHECK(list[1].type == SETUP_RNG_SEED);
    CHECK(loaded.zero_page().acpi_rsdp_addr == 0U);
    CHECK(acpi_of(loaded).find("RSD PTR") == std::string::npos);
  }
  SECTION("the command line, before the user's part; ACPI still tells of the CPUs") {
    const Loaded loaded(elf, 64 * mebibyte, 0, "quiet -- for init", Discovery::command_line);
    const std::string text = loaded.text_at(layout::command_line);
    CHECK(text.starts_with("virtio_mmio.device="));
    CHECK(text.ends_with(" quiet -- for init"));
    CHECK(acpi_of(loaded).find("APIC") != std::string::npos);
    CHECK(acpi_of(loaded).find(acpi_name) == std::string::npos);
    CHECK(Loaded(elf, 64 * mebibyte, 0, "", Discovery::command_line).text_at(layout::command_line).back() != ' ');
  }
}

TEST_CASE("a PVH kernel gets a start info with its memory map, command line and module") {
  test::SyntheticElf elf = test::sample_elf();
  elf.entry = 0xFFFF'FFFF'8100'0000;
  elf.pvh_entry = 0x100'0040;
  const Loaded loaded(elf.build(), 8 * gibibyte, 10'000, "boot_verbose");
  CHECK(loaded.state.mode == CpuState::Mode::protected_mode);
  CHECK(loaded.state.rip == 0x100'0040);

  // Xen, public/arch-x86/hvm/start_info.h.
  const std::string info = loaded.at(loaded.state.rbx, 56);
  CHECK(test::get<std::uint32_t>(info, 0) == 0x336E'C578);
  CHECK(test::get<std::uint32_t>(info, 4) == 1);
  REQUIRE(test::get<std::uint32_t>(info, 12) == 1);
  CHECK(loaded.text_at(Gpa{test::get<std::uint64_t>(info, 24)}) == "boot_verbose");
  CHECK(test::get<std::uint64_t>(info, 32) == raw(layout::acpi));

  const std::string module = loaded.at(test::get<std::uint64_t>(info, 16), 32);
  CHECK(loaded.at(test::get<std::uint64_t>(module, 0), 6) == "070701");
  CHECK(test::get<std::uint64_t>(module, 8) == loaded.initramfs.size());

  REQUIRE(test::get<std::uint32_t>(info, 48) == 4);
  const std::string map = loaded.at(test::get<std::uint64_t>(info, 40), 4 * 24);
  CHECK(test::get<std::uint64_t>(map, 2 * 24) == mebibyte);
  CHECK(test::get<std::uint64_t>(map, 3 * 24) == 4 * gibibyte);
  CHECK(test::get<std::uint64_t>(map, 3 * 24 + 8) == 5 * gibibyte);
  CHECK(test::get<std::uint32_t>(map, 3 * 24 + 16) == 1);
}

}  // namespace minivm::boot

#include "boot/fdt.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <string>

#include "boot/layout.h"
#include "tests/sample_platform.h"
#include "tests/scratch_directory.h"

namespace minivm {
namespace {

using test::sample_platform;

/// The tree's source as dtc sees it, which must not make it complain.
std::string decompile(const std::vector<std::byte>& blob) {
  const test::ScratchDirectory directory;
  directory.write("tree.dtb", blob);
  const auto result = directory.run("dtc -I dtb -O dts -o tree.dts tree.dtb");
  INFO(result.output);
  REQUIRE(result.status == 0);
  REQUIRE(result.output.empty());
  return directory.read("tree.dts");
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

/// A node's own text, from its name to its closing brace; its children come with it.
std::string node(const std::string& tree, const std::string& name) {
  const std::size_t start = tree.find(name + " {");
  REQUIRE(start != tree.npos);
  const std::size_t line = tree.rfind('\n', start) + 1;
  const std::string indent = tree.substr(line, start - line);
  return tree.substr(start, tree.find("\n" + indent + "};", start) - start);
}

}  // namespace

TEST_CASE("dtc accepts the device tree and shows every CPU and device", "[fdt]") {
  const auto cpus = GENERATE(1U, 2U, 32U, 255U);
  const auto slots = GENERATE(0U, 1U, layout::max_virtio_devices);
  const std::string tree = decompile(boot::build_fdt(sample_platform(cpus, slots)));

  for (std::uint32_t cpu = 0; cpu < cpus; ++cpu) {
    CHECK(contains(node(tree, fmt::format("cpu@{:x}", cpu)), fmt::format("reg = <0x{:02x}>", cpu)));
  }
  CHECK_FALSE(contains(tree, fmt::format("cpu@{:x}", cpus)));
  for (std::uint32_t i = 0; i < slots; ++i) {
    const std::string device = node(tree, fmt::format("virtio@{:x}", 0xD000'0000 + 0x1000 * i));
    CHECK(contains(device, "compatible = \"virtio,mmio\""));
    CHECK(contains(device, fmt::format("reg = <0x00 0x{:08x} 0x00 0x200>", 0xD000'0000 + 0x1000 * i)));
    CHECK(contains(device, fmt::format("interrupts = <0x{:02x} 0x03>", 9 + i)));
  }
}

TEST_CASE("the device tree speaks of buses and interrupt controllers as x86 Linux knows them", "[fdt]") {
  const std::string tree = decompile(boot::build_fdt(sample_platform(1, 1)));
  CHECK(contains(tree, "interrupt-parent = <0x01>"));

  const std::string ioapic = node(tree, "interrupt-controller@fec00000");
  CHECK(contains(ioapic, "compatible = \"intel,ce4100-ioapic\""));
  CHECK(contains(ioapic, "#interrupt-cells = <0x02>"));
  CHECK(contains(ioapic, "phandle = <0x01>"));
  CHECK(contains(node(tree, "lapic@fee00000"), "compatible = \"intel,ce4100-lapic\""));

  const std::string virtio_bus = node(tree, "\tvirtio");
  CHECK(contains(virtio_bus, "compatible = \"isa\""));
  CHECK(contains(virtio_bus, "ranges;"));
  CHECK(contains(virtio_bus, "virtio@d0000000"));

  const std::string serial = node(node(tree, "isa@0"), "serial@3f8");
  CHECK(contains(serial, "compatible = \"ns16550a\""));
  CHECK(contains(serial, "reg = <0x01 0x3f8 0x08>"));
  CHECK(contains(serial, "interrupts = <0x04 0x03>"));
}

TEST_CASE("a slot above 4 GiB keeps all its address bits", "[fdt]") {
  boot::Platform platform;
  platform.virtio.push_back({0x12'3456'7000, 0x200, 7});
  const std::string tree = decompile(boot::build_fdt(platform));
  CHECK(contains(node(tree, "virtio@1234567000"), "reg = <0x12 0x34567000 0x00 0x200>"));
}

TEST_CASE("kernel parameters name size, address and interrupt of each slot", "[fdt]") {
  CHECK(boot::virtio_mmio_parameters(sample_platform(1, 0)).empty());
  CHECK(boot::virtio_mmio_parameters(sample_platform(1, 2)) ==
        "virtio_mmio.device=0x200@0xd0000000:9 virtio_mmio.device=0x200@0xd0001000:10");
}

}  // namespace minivm

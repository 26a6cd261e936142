#include "boot/acpi.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <map>
#include <numeric>
#include <string>

#include "boot/acpi_tables.h"
#include "boot/layout.h"
#include "tests/sample_platform.h"
#include "tests/scratch_directory.h"

namespace minivm {
namespace {

using boot::build_acpi;
using test::sample_platform;
using Bytes = std::vector<std::byte>;

template <typename T>
T value_at(const Bytes& bytes, std::size_t offset) {
  T value;
  REQUIRE(offset + sizeof value <= bytes.size());
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

unsigned sum(std::span<const std::byte> bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), 0U,
                         [](unsigned total, std::byte byte) { return total + std::to_integer<unsigned>(byte); }) &
         0xFF;
}

/// The table at a guest physical address, with its checksum verified.
Bytes table_at(const Bytes& area, std::uint64_t address) {
  REQUIRE(address >= raw(layout::acpi));
  REQUIRE(address % 8 == 0);
  const std::size_t offset = address - raw(layout::acpi);
  const auto header = value_at<boot::acpi::TableHeader>(area, offset);
  const std::uint32_t length = header.length;
  REQUIRE(offset + length <= area.size());
  Bytes table(area.begin() + static_cast<std::ptrdiff_t>(offset),
              area.begin() + static_cast<std::ptrdiff_t>(offset + length));
  REQUIRE(sum(table) == 0);
  return table;
}

/// All tables by signature, found the way that an operating system finds them.
std::map<std::string, Bytes> walk(const Bytes& area) {
  const auto rsdp = value_at<boot::acpi::Rsdp>(area, 0);
  REQUIRE(std::string_view(rsdp.signature.data(), 8) == "RSD PTR ");
  REQUIRE(rsdp.revision == 2);
  REQUIRE(sum(std::span(area).first(20)) == 0);
  REQUIRE(sum(std::span(area).first(36)) == 0);

  std::map<std::string, Bytes> tables;
  const auto keep = [&](Bytes table) {
    const std::string signature(reinterpret_cast<const char*>(table.data()), 4);
    tables[signature] = std::move(table);
  };
  const std::uint64_t xsdt_address = rsdp.xsdt;
  const Bytes xsdt = table_at(area, xsdt_address);
  for (std::size_t i = sizeof(boot::acpi::TableHeader); i < xsdt.size(); i += 8) {
    keep(table_at(area, value_at<std::uint64_t>(xsdt, i)));
  }
  keep(xsdt);
  const std::uint64_t dsdt_address = value_at<boot::acpi::Fadt>(tables.at("FACP"), 0).x_dsdt;
  keep(table_at(area, dsdt_address));
  return tables;
}

/// The text of iasl's disassembly, which must be free of complaints.
std::string disassemble(const test::ScratchDirectory& directory, const std::string& signature, const Bytes& table) {
  directory.write(signature + ".aml", table);
  const auto result = directory.run("iasl -d " + signature + ".aml");
  INFO(result.output);
  REQUIRE(result.status == 0);
  REQUIRE(result.output.find("rror") == std::string::npos);
  REQUIRE(result.output.find("arning") == std::string::npos);
  REQUIRE(result.output.find("nvalid") == std::string::npos);
  return directory.read(signature + ".dsl");
}

std::size_t count(const std::string& text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++found;
  return found;
}

/// The line of a data table's disassembly that ends in `value`, whatever comes before the name.
bool has_field(const std::string& text, std::string_view name, std::string_view value) {
  return text.find(fmt::format("{} : {}\n", name, value)) != std::string::npos;
}

}  // namespace

TEST_CASE("the ACPI disassembler finds every CPU and device in the tables", "[acpi]") {
  const auto cpus = GENERATE(1U, 2U, 32U, 255U);
  const auto slots = GENERATE(0U, 1U, 2U, 5U, layout::max_virtio_devices);
  const auto tables = walk(build_acpi(sample_platform(cpus, slots)));
  const test::ScratchDirectory directory;

  const std::string dsdt = disassemble(directory, "DSDT", tables.at("DSDT"));
  CHECK(count(dsdt, "\"ACPI0007\"") == cpus);
  CHECK(count(dsdt, "\"LNRO0005\"") == slots);
  CHECK(count(dsdt, "Memory32Fixed (ReadWrite,") == slots);
  CHECK(count(dsdt, "Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive") == slots + 1);
  for (std::uint32_t i = 0; i < slots; ++i) {
    CHECK(count(dsdt, fmt::format("0x{:08X},         // Address Base", 0xD000'0000 + 0x1000 * i)) == 1);
    CHECK(count(dsdt, fmt::format("                    0x{:08X},\n                }}", 9 + i)) == 1);
  }
  const std::string madt = disassemble(directory, "APIC", tables.at("APIC"));
  CHECK(count(madt, "[Processor Local APIC]") == cpus);
  CHECK(count(madt, "Processor Enabled : 1") == cpus);
  CHECK(count(madt, "[I/O APIC]") == 1);
}

TEST_CASE("the DSDT compiles again without errors, warnings or remarks", "[acpi]") {
  const auto tables = walk(build_acpi(sample_platform(3, layout::max_virtio_devices)));
  const test::ScratchDirectory directory;
  disassemble(directory, "DSDT", tables.at("DSDT"));
  const auto result = directory.run("iasl -p again DSDT.dsl");
  INFO(result.output);
  CHECK(result.status == 0);
  CHECK(result.output.find("0 Errors, 0 Warnings, 0 Remarks") != std::string::npos);
}

TEST_CASE("the DSDT names the serial port and how to power off", "[acpi]") {
  const auto tables = walk(build_acpi(sample_platform(1, 0)));
  const test::ScratchDirectory directory;
  const std::string dsdt = disassemble(directory, "DSDT", tables.at("DSDT"));
  const std::string serial = dsdt.substr(dsdt.find("Device (COM1)"));
  CHECK(serial.find("\"PNP0501\"") != std::string::npos);
  CHECK(serial.find("0x03F8,             // Range Minimum") != std::string::npos);
  CHECK(serial.find("0x08,               // Length") != std::string::npos);
  CHECK(serial.find("0x00000004,") != std::string::npos);
  CHECK(dsdt.find("Name (\\_S5, Package (0x04)") != std::string::npos);
  CHECK(count(dsdt.substr(0, dsdt.find("Scope")), "0x05,") == 2);
}

TEST_CASE("the FADT describes hardware-reduced ACPI with reset and sleep registers", "[acpi]") {
  const auto tables = walk(build_acpi(sample_platform(1, 1)));
  const test::ScratchDirectory directory;
  const std::string fadt = disassemble(directory, "FACP", tables.at("FACP"));
  CHECK(has_field(fadt, "Hardware Reduced (V5)", "1"));
  CHECK(has_field(fadt, "Reset Register Supported (V2)", "1"));
  CHECK(has_field(fadt, "Control Method Power Button (V1)", "1"));
  CHECK(has_field(fadt, "Control Method Sleep Button (V1)", "1"));
  CHECK(has_field(fadt, "8042 Present on ports 60/64 (V2)", "0"));
  CHECK(has_field(fadt, "VGA Not Present (V4)", "1"));
  CHECK(has_field(fadt, "MSI Not Supported (V4)", "0"));
  CHECK(has_field(fadt, "CMOS RTC Not Present (V5)", "1"));
  CHECK(has_field(fadt, "SCI Interrupt", "0000"));
  CHECK(has_field(fadt, "Value to cause reset", "01"));
  CHECK(has_field(fadt, "Address", "0000000000000600"));
  CHECK(has_field(fadt, "Address", "0000000000000601"));
  CHECK(has_field(fadt, "Address", "0000000000000602"));
  CHECK(count(fadt, "Space ID : 01 [SystemIO]") == 3);
  CHECK(count(fadt, "Encoded Access Width : 01 [Byte Access:8]") == 3);
}

TEST_CASE("the MADT says where the APICs are and that no 8259 is there", "[acpi]") {
  const auto tables = walk(build_acpi(sample_platform(1, 1)));
  const test::ScratchDirectory directory;
  const std::string madt = disassemble(directory, "APIC", tables.at("APIC"));
  CHECK(has_field(madt, "Local Apic Address", "FEE00000"));
  CHECK(has_field(madt, "PC-AT Compatibility", "0"));
  CHECK(has_field(madt, "Address", "FEC00000"));
  CHECK(has_field(madt, "Interrupt", "00000000"));
  CHECK(count(madt, "Subtable Type") == 2);
}

TEST_CASE("a PCI bus has its BARs' window and its configuration space, which the MCFG names", "[acpi]") {
  boot::Platform platform = sample_platform(1, 0);
  CHECK(walk(build_acpi(platform)).count("MCFG") == 0);
  platform.pci = {layout::pci_config, layout::pci_config_size, layout::pci_window, layout::pci_window_size};
  const auto tables = walk(build_acpi(platform));
  const test::ScratchDirectory directory;
  const std::string mcfg = disassemble(directory, "MCFG", tables.at("MCFG"));
  CHECK(has_field(mcfg, "Base Address", "00000000E0000000"));
  CHECK(has_field(mcfg, "Start Bus Number", "00"));
  CHECK(has_field(mcfg, "End Bus Number", "00"));
  const std::string dsdt = disassemble(directory, "DSDT", tables.at("DSDT"));
  CHECK(count(dsdt, "\"PNP0A08\"") == 1);
  CHECK(count(dsdt, "WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,") == 1);
  CHECK(count(dsdt, "DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,") == 1);
  CHECK(count(dsdt, "0xD1000000,         // Range Minimum") == 1);
  CHECK(count(dsdt, "0xD1FFFFFF,         // Range Maximum") == 1);
  CHECK(count(dsdt, "0xE0000000,         // Address Base") == 1);
  const auto again = directory.run("iasl -p again DSDT.dsl");
  INFO(again.output);
  CHECK(again.output.find("0 Errors, 0 Warnings, 0 Remarks") != std::string::npos);
}

TEST_CASE("a CPU whose APIC ID takes more than eight bits gets an x2APIC entry", "[acpi]") {
  const Bytes area = build_acpi(sample_platform(256, layout::max_virtio_devices));
  CHECK(area.size() <= layout::acpi_size);
  const auto tables = walk(area);
  const test::ScratchDirectory directory;
  const std::string madt = disassemble(directory, "APIC", tables.at("APIC"));
  CHECK(count(madt, "[Processor Local APIC]") == 255);
  CHECK(count(madt, "[Processor Local x2APIC]") == 1);
  CHECK(has_field(madt, "Processor x2Apic ID", "000000FF"));
  CHECK(has_field(madt, "Processor UID", "000000FF"));
}

TEST_CASE("a platform that the tables cannot hold is refused with both numbers", "[acpi]") {
  CHECK_THROWS_WITH(build_acpi(sample_platform(0, 0)), Catch::Contains("0 processors"));
  CHECK_THROWS_WITH(build_acpi(sample_platform(4096, 0)), Catch::Contains("more than the 65536 set aside"));
  boot::Platform high = sample_platform(1, 0);
  high.virtio.push_back({0x1'0000'0000, 0x200, 5});
  CHECK_THROWS_WITH(build_acpi(high), Catch::Contains("slot 0") && Catch::Contains("0x100000000"));
}

}  // namespace minivm

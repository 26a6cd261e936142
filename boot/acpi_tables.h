#pragma once

#include <array>
#include <cstdint>

namespace minivm::boot::acpi {

/// The tables' wire formats, little-endian like their only readers. Fields that hardware-reduced ACPI ignores or that
/// stay zero are folded into `unused_*`.

/// ACPI 6.4, 5.2.5.3.
struct [[gnu::packed]] Rsdp {
  std::array<char, 8> signature{'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '};
  std::uint8_t checksum = 0;  // of the 20 bytes that ACPI 1.0 knew
  std::array<char, 6> oem_id{'M', 'I', 'N', 'I', 'V', 'M'};
  std::uint8_t revision = 2;
  std::uint32_t rsdt = 0;
  std::uint32_t length = 36;
  std::uint64_t xsdt = 0;
  std::uint8_t extended_checksum = 0;
  std::array<std::uint8_t, 3> reserved{};
};
static_assert(sizeof(Rsdp) == 36);

/// ACPI 6.4, 5.2.6. `length` and `checksum` are filled in when the table is complete.
struct [[gnu::packed]] TableHeader {
  std::array<char, 4> signature{};
  std::uint32_t length = 0;
  std::uint8_t revision = 0;
  std::uint8_t checksum = 0;
  std::array<char, 6> oem_id{'M', 'I', 'N', 'I', 'V', 'M'};
  std::array<char, 8> oem_table_id{'M', 'I', 'N', 'I', 'V', 'M', ' ', ' '};
  std::uint32_t oem_revision = 1;
  std::array<char, 4> creator_id{'M', 'N', 'V', 'M'};
  std::uint32_t creator_revision = 1;
};
static_assert(sizeof(TableHeader) == 36);

/// ACPI 6.4, 5.2.3.2.
struct [[gnu::packed]] GenericAddress {
  static constexpr std::uint8_t system_io = 1;

  std::uint8_t space = 0;
  std::uint8_t bit_width = 0;
  std::uint8_t bit_offset = 0;
  std::uint8_t access_size = 0;  // 1: byte
  std::uint64_t address = 0;
};
static_assert(sizeof(GenericAddress) == 12);

/// ACPI 6.4, 5.2.9.
struct [[gnu::packed]] Fadt {
  // IAPC_BOOT_ARCH: everything else that a PC might have is absent, the 8042 among it.
  static constexpr std::uint16_t vga_not_present = 1U << 2;
  static constexpr std::uint16_t cmos_rtc_not_present = 1U << 5;
  // Flags.
  static constexpr std::uint32_t wbinvd = 1U << 0;
  static constexpr std::uint32_t proc_c1 = 1U << 2;
  static constexpr std::uint32_t power_button_is_a_device = 1U << 4;  // if there is one at all
  static constexpr std::uint32_t sleep_button_is_a_device = 1U << 5;
  static constexpr std::uint32_t reset_register_supported = 1U << 10;
  static constexpr std::uint32_t headless = 1U << 12;
  static constexpr std::uint32_t hardware_reduced = 1U << 20;

  TableHeader header{.signature = {'F', 'A', 'C', 'P'}, .revision = 6};
  std::array<std::uint8_t, 73> unused_fixed_hardware{};
  std::uint16_t boot_architecture = 0;
  std::uint8_t reserved = 0;
  std::uint32_t flags = 0;
  GenericAddress reset_register{};
  std::uint8_t reset_value = 0;
  std::uint16_t arm_boot_architecture = 0;
  std::uint8_t minor_revision = 4;
  std::uint64_t x_firmware_control = 0;
  std::uint64_t x_dsdt = 0;
  std::array<std::uint8_t, 8 * sizeof(GenericAddress)> unused_x_fixed_hardware{};
  GenericAddress sleep_control{};
  GenericAddress sleep_status{};
  std::uint64_t hypervisor_vendor = 0;
};
static_assert(sizeof(Fadt) == 276);

/// ACPI 6.4, 5.2.12.
struct [[gnu::packed]] Madt {
  TableHeader header{.signature = {'A', 'P', 'I', 'C'}, .revision = 5};
  std::uint32_t local_apic = 0;
  std::uint32_t flags = 0;  // PCAT_COMPAT clear: no pair of 8259s
};
static_assert(sizeof(Madt) == 44);

inline constexpr std::uint32_t processor_enabled = 1U << 0;

/// ACPI 6.4, 5.2.12.2.
struct [[gnu::packed]] MadtLocalApic {
  std::uint8_t type = 0;
  std::uint8_t length = sizeof(MadtLocalApic);
  std::uint8_t processor_uid = 0;
  std::uint8_t apic_id = 0;
  std::uint32_t flags = processor_enabled;
};
static_assert(sizeof(MadtLocalApic) == 8);

/// ACPI 6.4, 5.2.12.3.
struct [[gnu::packed]] MadtIoApic {
  std::uint8_t type = 1;
  std::uint8_t length = sizeof(MadtIoApic);
  std::uint8_t id = 0;
  std::uint8_t reserved = 0;
  std::uint32_t address = 0;
  std::uint32_t gsi_base = 0;
};
static_assert(sizeof(MadtIoApic) == 12);

/// PCI Firmware 3.2, 4.1.2: one allocation, bus 0 of segment 0.
struct [[gnu::packed]] Mcfg {
  TableHeader header{.signature = {'M', 'C', 'F', 'G'}, .revision = 1};
  std::uint64_t reserved = 0;
  std::uint64_t config_address = 0;
  std::uint16_t segment = 0;
  std::uint8_t first_bus = 0;
  std::uint8_t last_bus = 0;
  std::uint32_t reserved_too = 0;
};
static_assert(sizeof(Mcfg) == 60);

/// ACPI 6.4, 5.2.12.12.
struct [[gnu::packed]] MadtLocalX2Apic {
  std::uint8_t type = 9;
  std::uint8_t length = sizeof(MadtLocalX2Apic);
  std::uint16_t reserved = 0;
  std::uint32_t apic_id = 0;
  std::uint32_t flags = processor_enabled;
  std::uint32_t processor_uid = 0;
};
static_assert(sizeof(MadtLocalX2Apic) == 16);

}  // namespace minivm::boot::acpi

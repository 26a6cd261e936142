#pragma once

#include <cstdint>

#include "base/guest_memory.h"

/// Every fixed guest physical address and I/O port, in one table. Reading top to bottom is reading upwards.
namespace minivm::layout {

// Low memory, below 640 KiB. The kernel copies what it needs from here early on.
inline constexpr Gpa gdt{0x500};
inline constexpr Gpa pvh_start_info{0x6000};  // hvm_start_info, its module list and memory map: up to 0x7000
inline constexpr Gpa boot_params{0x7000};     // the zero page, 4 KiB
inline constexpr Gpa boot_stack{0x8FF0};      // grows down
inline constexpr Gpa page_tables{0x9000};     // PML4, PDPT, 4 page directories: the first 4 GiB, 2 MiB pages
inline constexpr Gpa command_line{0x2'0000};  // up to 64 KiB
inline constexpr std::uint64_t low_memory_end = 0x9'FC00;  // where the EBDA of a PC begins
// Where a PC has its BIOS, reserved in the e820 map. What is in RAM and must stay splits the map in three instead, and
// Linux walks all of it for each page table entry that has no RAM.
inline constexpr Gpa firmware{0xE'0000};
inline constexpr std::uint64_t firmware_size = 0x2'0000;
inline constexpr Gpa acpi = firmware;  // tables: up to 64 KiB
inline constexpr std::uint64_t acpi_size = 0x1'0000;
inline constexpr Gpa setup_data{0xF'0000};  // setup_data list (random seed, device tree): up to 64 KiB
inline constexpr Gpa high_memory{0x10'0000};

// Devices, in the hole that GuestMemory leaves below 4 GiB.
inline constexpr std::uint64_t virtio_mmio = 0xD000'0000;
inline constexpr std::uint64_t virtio_mmio_stride = 0x1000;
inline constexpr std::uint64_t virtio_mmio_size = 0x200;
// Above 8, which may be a PC's clock: KVM leaves the guest for the end of each of its interrupts (RTC_GSI in
// arch/x86/kvm/ioapic.c).
inline constexpr std::uint32_t first_virtio_gsi = 9;
inline constexpr std::uint32_t gsi_count = 24;  // pins of the in-kernel IOAPIC
inline constexpr std::uint32_t max_virtio_devices = gsi_count - first_virtio_gsi;
inline constexpr std::uint64_t pci_window = 0xD100'0000;  // the BARs of PCI functions, one page each
inline constexpr std::uint64_t pci_window_size = 0x100'0000;
inline constexpr std::uint64_t pci_bar_stride = 0x1000;
inline constexpr std::uint64_t pci_config = 0xE000'0000;  // memory-mapped configuration space of bus 0
inline constexpr std::uint64_t pci_config_size = 0x10'0000;
inline constexpr std::uint64_t ioapic = 0xFEC0'0000;
inline constexpr std::uint64_t local_apic = 0xFEE0'0000;
// KVM's own pages on Intel hosts (api.rst, KVM_SET_TSS_ADDR): three for the TSS after one for the identity map.
inline constexpr std::uint64_t kvm_identity_map = 0xFFFB'C000;
inline constexpr std::uint64_t kvm_tss = 0xFFFB'D000;

// I/O ports.
inline constexpr std::uint16_t com1 = 0x3F8;
inline constexpr std::uint16_t com1_size = 8;
inline constexpr std::uint32_t com1_gsi = 4;
// The hardware-reduced sleep and reset registers (ACPI 6.4, 4.8.3.7): one byte each.
inline constexpr std::uint16_t sleep_control = 0x600;
inline constexpr std::uint16_t sleep_status = 0x601;
inline constexpr std::uint16_t reset_control = 0x602;
inline constexpr std::uint16_t power_ports_size = 3;
inline constexpr std::uint8_t sleep_type_s5 = 5;
inline constexpr std::uint8_t sleep_enable = 1U << 5;
inline constexpr std::uint8_t reset_value = 1;

static_assert(raw(page_tables) + std::uint64_t{6} * 4096 <= raw(command_line));
static_assert(raw(acpi) + acpi_size <= raw(setup_data) && raw(firmware) + firmware_size == raw(high_memory));
static_assert(raw(command_line) + 0x1'0000 <= low_memory_end);
static_assert(virtio_mmio + max_virtio_devices * virtio_mmio_stride <= pci_window);
static_assert(pci_window + pci_window_size <= pci_config && pci_config + pci_config_size <= ioapic);
static_assert(virtio_mmio >= GuestMemory::hole_start && kvm_tss + 3 * 4096 <= GuestMemory::hole_end);

}  // namespace minivm::layout

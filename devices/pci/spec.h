#pragma once

#include <cstdint>

/// The numbers of PCI that we use, each under the section of PCI Local Bus 3.0 that defines it, unless it says another.
namespace minivm::pci {

/// The header of configuration space (6.1): where its fields are.
namespace header {
inline constexpr std::uint8_t vendor_id = 0x00;
inline constexpr std::uint8_t device_id = 0x02;
inline constexpr std::uint8_t command = 0x04;
inline constexpr std::uint8_t status = 0x06;
inline constexpr std::uint8_t revision_id = 0x08;
inline constexpr std::uint8_t class_code = 0x09;  // three bytes: interface, sub-class, base class
inline constexpr std::uint8_t base_class = 0x0B;
inline constexpr std::uint8_t base_address = 0x10;
inline constexpr std::uint8_t subsystem_vendor_id = 0x2C;
inline constexpr std::uint8_t subsystem_id = 0x2E;
inline constexpr std::uint8_t capabilities = 0x34;
inline constexpr std::uint8_t interrupt_line = 0x3C;
inline constexpr std::uint8_t size = 0x40;
}  // namespace header

/// Command register (6.2.2).
inline constexpr std::uint16_t command_memory = 1U << 1;
inline constexpr std::uint16_t command_bus_master = 1U << 2;
inline constexpr std::uint16_t command_no_intx = 1U << 10;
/// Status register (6.2.3).
inline constexpr std::uint16_t status_has_capabilities = 1U << 4;
/// Base class (D).
inline constexpr std::uint8_t class_unassigned = 0xFF;

/// Capability IDs (H).
inline constexpr std::uint8_t capability_vendor = 0x09;
inline constexpr std::uint8_t capability_msix = 0x11;

/// MSI-X (6.8.2): the capability and an entry of the table.
namespace msix {
inline constexpr std::uint8_t control_offset = 2;  // from the beginning of the capability
inline constexpr std::uint16_t control_enable = 1U << 15;
inline constexpr std::uint16_t control_mask_all = 1U << 14;
inline constexpr std::uint16_t max_vectors = 2048;
inline constexpr std::uint64_t entry_size = 16;  // address, upper address, data, vector control
inline constexpr std::uint32_t vector_masked = 1U << 0;
}  // namespace msix

/// The memory-mapped configuration space (PCI Express 3.0, 7.2.2): a page for each of a bus' functions.
inline constexpr std::uint64_t function_config_size = 0x1000;
inline constexpr std::uint32_t functions_per_device = 8;
inline constexpr std::uint32_t devices_per_bus = 32;
inline constexpr std::uint64_t bus_config_size = function_config_size * functions_per_device * devices_per_bus;

}  // namespace minivm::pci

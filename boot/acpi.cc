#include "boot/acpi.h"

#include <fmt/format.h>

#include <cstring>
#include <numeric>
#include <span>
#include <stdexcept>

#include "boot/acpi_tables.h"
#include "boot/aml.h"
#include "boot/layout.h"

namespace minivm::boot {
namespace {

using namespace acpi;

using Bytes = std::vector<std::byte>;

template <typename T>
void append(Bytes& to, const T& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

/// What makes the sum of `bytes` zero.
std::uint8_t checksum(std::span<const std::byte> bytes) {
  const auto sum = std::accumulate(bytes.begin(), bytes.end(), 0U, [](unsigned total, std::byte byte) {
    return total + std::to_integer<unsigned>(byte);
  });
  return static_cast<std::uint8_t>(0U - sum);
}

/// The tables in the order in which they lie in guest memory, room for the RSDP first.
class TableArea {
 public:
  /// Returns where `table`, completed by its length and checksum, will be.
  std::uint64_t add(Bytes table) {
    constexpr std::size_t alignment = 64;
    TableHeader header;
    std::memcpy(&header, table.data(), sizeof header);
    header.length = static_cast<std::uint32_t>(table.size());
    std::memcpy(table.data(), &header, sizeof header);
    header.checksum = checksum(table);
    std::memcpy(table.data(), &header, sizeof header);

    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    const std::uint64_t address = raw(layout::acpi) + bytes_.size();
    bytes_.insert(bytes_.end(), table.begin(), table.end());
    return address;
  }

  Bytes finish(std::uint64_t xsdt) && {
    Rsdp rsdp;
    rsdp.xsdt = xsdt;
    const auto bytes = std::as_bytes(std::span(&rsdp, 1));
    rsdp.checksum = checksum(bytes.first(20));
    rsdp.extended_checksum = checksum(bytes);
    std::memcpy(bytes_.data(), &rsdp, sizeof rsdp);
    return std::move(bytes_);
  }

 private:
  Bytes bytes_ = Bytes(sizeof(Rsdp));
};

// Linux takes a processor of the MADT as present by its APIC ID alone; ACPI 6.4, 8.4 wants a device with its _UID too.
void describe_processors(AmlWriter& aml, std::uint32_t cpus) {
  for (std::uint32_t cpu = 0; cpu < cpus; ++cpu) {
    aml.device(fmt::format("C{:03X}", cpu), [&] {
      aml.string("_HID", "ACPI0007");
      aml.integer("_UID", cpu);
    });
  }
}

void describe_serial_port(AmlWriter& aml) {
  // Without the 8259s nothing but this tells Linux that IRQ 4 exists.
  aml.device("COM1", [&] {
    aml.string("_HID", "PNP0501");
    aml.integer("_UID", 0);
    aml.resources("_CRS", AmlResources().io_port(layout::com1, layout::com1_size).interrupt(layout::com1_gsi));
  });
}

void describe_virtio(AmlWriter& aml, std::span<const VirtioMmioSlot> slots) {
  std::uint32_t index = 0;
  for (const VirtioMmioSlot& slot : slots) {
    if (slot.size == 0 || slot.address >= GuestMemory::hole_end || slot.size > GuestMemory::hole_end - slot.address) {
      throw std::runtime_error(fmt::format("acpi: virtio-mmio slot {}: {:#x} bytes at {:#x} do not lie below 4 GiB",
                                           index, slot.size, slot.address));
    }
    aml.device(fmt::format("V{:03X}", index), [&] {
      aml.string("_HID", "LNRO0005");
      aml.integer("_UID", index);
      aml.resources("_CRS", AmlResources()
                                .memory(static_cast<std::uint32_t>(slot.address), static_cast<std::uint32_t>(slot.size))
                                .interrupt(slot.gsi));
    });
    ++index;
  }
}

// PCI Firmware 3.2, 4.1.2: what the MCFG names has to be reserved by a motherboard resource too.
void describe_pci(AmlWriter& aml, const PciBus& bus) {
  const auto below_4g = [](std::uint64_t value) { return static_cast<std::uint32_t>(value); };
  aml.device("PCI0", [&] {
    aml.string("_HID", "PNP0A08");
    aml.string("_CID", "PNP0A03");
    aml.integer("_UID", 0);
    aml.integer("_SEG", 0);
    aml.integer("_BBN", 0);
    aml.resources("_CRS",
                  AmlResources().bus_number(0).memory_window(below_4g(bus.window_address), below_4g(bus.window_size)));
  });
  aml.device("PCIC", [&] {
    aml.string("_HID", "PNP0C02");
    aml.integer("_UID", 0);
    aml.resources("_CRS", AmlResources().memory(below_4g(bus.config_address), below_4g(bus.config_size)));
  });
}

Bytes build_dsdt(const Platform& platform) {
  AmlWriter aml;
  aml.package("\\_S5_", {layout::sleep_type_s5, layout::sleep_type_s5, 0, 0});  // ACPI 6.4, 7.4.2
  aml.scope("\\_SB_", [&] {
    describe_processors(aml, platform.cpus);
    describe_serial_port(aml);
    describe_virtio(aml, platform.virtio);
    if (platform.pci) describe_pci(aml, *platform.pci);
  });
  Bytes table;
  append(table, TableHeader{.signature = {'D', 'S', 'D', 'T'}, .revision = 2});  // 2: integers have 64 bits
  table.insert(table.end(), aml.bytes().begin(), aml.bytes().end());
  return table;
}

GenericAddress io_byte(std::uint16_t port) {
  return {.space = GenericAddress::system_io, .bit_width = 8, .access_size = 1, .address = port};
}

Bytes build_fadt(std::uint64_t dsdt) {
  // SCI_INT stays 0: older kernels make the line that it names level-triggered, even on hardware-reduced platforms.
  Fadt fadt;
  fadt.boot_architecture = Fadt::vga_not_present | Fadt::cmos_rtc_not_present;
  fadt.flags = Fadt::wbinvd | Fadt::proc_c1 | Fadt::power_button_is_a_device | Fadt::sleep_button_is_a_device |
               Fadt::reset_register_supported | Fadt::headless | Fadt::hardware_reduced;
  fadt.reset_register = io_byte(layout::reset_control);
  fadt.reset_value = layout::reset_value;
  fadt.x_dsdt = dsdt;
  fadt.sleep_control = io_byte(layout::sleep_control);
  fadt.sleep_status = io_byte(layout::sleep_status);
  Bytes table;
  append(table, fadt);
  return table;
}

Bytes build_madt(std::uint32_t cpus) {
  constexpr std::uint32_t first_x2apic_id = 255;  // 255 is the broadcast ID of a local APIC
  Bytes table;
  append(table, Madt{.local_apic = static_cast<std::uint32_t>(layout::local_apic)});
  for (std::uint32_t cpu = 0; cpu < cpus; ++cpu) {
    if (cpu < first_x2apic_id) {
      const auto id = static_cast<std::uint8_t>(cpu);
      append(table, MadtLocalApic{.processor_uid = id, .apic_id = id});
    } else {
      append(table, MadtLocalX2Apic{.apic_id = cpu, .processor_uid = cpu});
    }
  }
  append(table, MadtIoApic{.address = static_cast<std::uint32_t>(layout::ioapic)});
  return table;
}

Bytes build_mcfg(const PciBus& bus) {
  Bytes table;
  append(table, Mcfg{.config_address = bus.config_address});
  return table;
}

Bytes build_xsdt(std::span<const std::uint64_t> tables) {
  Bytes table;
  append(table, TableHeader{.signature = {'X', 'S', 'D', 'T'}, .revision = 1});
  for (const std::uint64_t address : tables) append(table, address);
  return table;
}

}  // namespace

std::vector<std::byte> build_acpi(const Platform& platform) {
  constexpr std::uint32_t max_cpus = 4096;  // three hexadecimal digits of a device's name
  if (platform.cpus == 0 || platform.cpus > max_cpus) {
    throw std::runtime_error(fmt::format("acpi: {} processors are not between 1 and {}", platform.cpus, max_cpus));
  }
  TableArea area;
  const std::uint64_t dsdt = area.add(build_dsdt(platform));
  std::vector<std::uint64_t> listed{area.add(build_fadt(dsdt)), area.add(build_madt(platform.cpus))};
  if (platform.pci) listed.push_back(area.add(build_mcfg(*platform.pci)));
  const std::uint64_t xsdt = area.add(build_xsdt(listed));
  Bytes tables = std::move(area).finish(xsdt);
  if (tables.size() > layout::acpi_size) {
    throw std::runtime_error(
        fmt::format("acpi: the tables take {} bytes, more than the {} set aside", tables.size(), layout::acpi_size));
  }
  return tables;
}

}  // namespace minivm::boot

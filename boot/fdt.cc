#include "boot/fdt.h"

#include <fmt/format.h>
#include <libfdt.h>

#include <initializer_list>
#include <stdexcept>
#include <string_view>

#include "boot/layout.h"

namespace minivm::boot {
namespace {

constexpr std::uint32_t ioapic_phandle = 1;
constexpr std::uint32_t ioapic_size = 0x1000;
constexpr std::uint32_t local_apic_size = 0x1000;
// The second interrupt cell is an index into of_ioapic_type in Linux' arch/x86/kernel/devicetree.c: an edge on an
// active-high pin. Linux before 5.11 gives the same setting the name of the falling edge.
constexpr std::uint32_t active_high_edge = 3;
// First address cell of an ISA bus (IEEE 1275 ISA binding): 1 is I/O space, 0 memory.
constexpr std::uint32_t isa_io = 1;

/// libfdt's sequential writer with errors turned into exceptions.
class FdtWriter {
 public:
  explicit FdtWriter(std::size_t capacity) : blob_(capacity) {
    check(fdt_create(blob_.data(), static_cast<int>(blob_.size())), "header");
    check(fdt_finish_reservemap(blob_.data()), "reserve map");
  }

  template <typename Body>
  void node(const std::string& name, Body body) {
    check(fdt_begin_node(blob_.data(), name.c_str()), name);
    body();
    check(fdt_end_node(blob_.data()), name);
  }

  void cells(const char* name, std::initializer_list<std::uint32_t> values) {
    void* to = nullptr;
    check(fdt_property_placeholder(blob_.data(), name, static_cast<int>(values.size() * sizeof(fdt32_t)), &to), name);
    auto* cell = static_cast<fdt32_t*>(to);
    for (const std::uint32_t value : values) fdt32_st(cell++, value);
  }

  void string(const char* name, const std::string& value) {
    check(fdt_property(blob_.data(), name, value.c_str(), static_cast<int>(value.size() + 1)), name);
  }
  void flag(const char* name) { check(fdt_property(blob_.data(), name, nullptr, 0), name); }

  std::vector<std::byte> finish() && {
    check(fdt_finish(blob_.data()), "end");
    blob_.resize(fdt_totalsize(blob_.data()));
    return std::move(blob_);
  }

 private:
  static void check(int result, std::string_view step) {
    if (result < 0) throw std::runtime_error(fmt::format("device tree: {}: {}", step, fdt_strerror(result)));
  }

  std::vector<std::byte> blob_;
};

std::string unit(std::string_view name, std::uint64_t address) { return fmt::format("{}@{:x}", name, address); }

std::uint32_t low(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
std::uint32_t high(std::uint64_t value) { return static_cast<std::uint32_t>(value >> 32); }

void describe_cpus(FdtWriter& fdt, std::uint32_t cpus) {
  fdt.node("cpus", [&] {
    fdt.cells("#address-cells", {1});
    fdt.cells("#size-cells", {0});
    for (std::uint32_t apic_id = 0; apic_id < cpus; ++apic_id) {
      fdt.node(unit("cpu", apic_id), [&] {
        fdt.string("device_type", "cpu");
        fdt.cells("reg", {apic_id});
      });
    }
  });
}

void describe_interrupt_controllers(FdtWriter& fdt) {
  fdt.node(unit("interrupt-controller", layout::ioapic), [&] {
    fdt.string("compatible", "intel,ce4100-ioapic");
    fdt.cells("reg", {0, low(layout::ioapic), 0, ioapic_size});
    fdt.flag("interrupt-controller");
    fdt.cells("#interrupt-cells", {2});
    fdt.cells("#address-cells", {0});
    fdt.cells("phandle", {ioapic_phandle});
  });
  fdt.node(unit("lapic", layout::local_apic), [&] {
    fdt.string("compatible", "intel,ce4100-lapic");
    fdt.cells("reg", {0, low(layout::local_apic), 0, local_apic_size});
    fdt.flag("intel,virtual-wire-mode");  // else the kernel looks for the IMCR of a PC with 8259s
  });
}

// Linux makes devices of the children of a bus that is compatible with "isa". It takes addresses as those of an ISA
// bus, with its two cells, only where the node also has that name: so one of the two nodes has, and the other has not.
void describe_serial_port(FdtWriter& fdt) {
  fdt.node("isa@0", [&] {
    fdt.string("compatible", "isa");
    fdt.cells("#address-cells", {2});
    fdt.cells("#size-cells", {1});
    fdt.cells("ranges", {isa_io, 0, 0, 0, 0x1'0000});
    fdt.node(unit("serial", layout::com1), [&] {
      constexpr std::uint32_t clock_hz = 1'843'200;
      fdt.string("compatible", "ns16550a");
      fdt.cells("reg", {isa_io, layout::com1, layout::com1_size});
      fdt.cells("interrupts", {layout::com1_gsi, active_high_edge});
      fdt.cells("clock-frequency", {clock_hz});
    });
  });
}

void describe_virtio(FdtWriter& fdt, const std::vector<VirtioMmioSlot>& slots) {
  fdt.node("virtio", [&] {
    fdt.string("compatible", "isa");
    fdt.cells("#address-cells", {2});
    fdt.cells("#size-cells", {2});
    fdt.flag("ranges");
    for (const VirtioMmioSlot& slot : slots) {
      fdt.node(unit("virtio", slot.address), [&] {
        fdt.string("compatible", "virtio,mmio");
        fdt.cells("reg", {high(slot.address), low(slot.address), high(slot.size), low(slot.size)});
        fdt.cells("interrupts", {slot.gsi, active_high_edge});
      });
    }
  });
}

}  // namespace

std::vector<std::byte> build_fdt(const Platform& platform) {
  constexpr std::size_t fixed_part = 4096;
  constexpr std::size_t bytes_per_node = 160;  // well above what the largest of the counted nodes takes
  FdtWriter fdt(fixed_part + (platform.cpus + platform.virtio.size()) * bytes_per_node);
  fdt.node("", [&] {
    fdt.string("compatible", "minivm");
    fdt.string("model", "minivm");
    fdt.cells("#address-cells", {2});
    fdt.cells("#size-cells", {2});
    fdt.cells("interrupt-parent", {ioapic_phandle});
    describe_cpus(fdt, platform.cpus);
    describe_interrupt_controllers(fdt);
    describe_serial_port(fdt);
    describe_virtio(fdt, platform.virtio);
  });
  return std::move(fdt).finish();
}

std::string virtio_mmio_parameters(const Platform& platform) {
  std::string text;
  for (const VirtioMmioSlot& slot : platform.virtio) {
    if (!text.empty()) text += ' ';
    text += fmt::format("virtio_mmio.device={:#x}@{:#x}:{}", slot.size, slot.address, slot.gsi);
  }
  return text;
}

}  // namespace minivm::boot

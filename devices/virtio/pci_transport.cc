#include "devices/virtio/pci_transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "devices/pci/spec.h"
#include "devices/virtio/spec.h"

namespace minivm::virtio {
namespace {

namespace common = over_pci::common;

struct Field {
  std::uint64_t offset;
  std::size_t size;  // 4.1.3.1: the only size of access that the driver may use
  Register which;
};
// The common configuration structure but for the vectors, which are the transport's own (VirtIO 1.2, 4.1.4.3).
constexpr std::array fields{
    Field{common::device_features_sel, 4, Register::device_features_sel},
    Field{common::device_features, 4, Register::device_features},
    Field{common::driver_features_sel, 4, Register::driver_features_sel},
    Field{common::driver_features, 4, Register::driver_features},
    Field{common::num_queues, 2, Register::queue_count},
    Field{common::status, 1, Register::status},
    Field{common::config_generation, 1, Register::config_generation},
    Field{common::queue_sel, 2, Register::queue_sel},
    Field{common::queue_size, 2, Register::queue_size},
    Field{common::queue_enable, 2, Register::queue_ready},
    Field{common::queue_desc, 4, Register::queue_desc_low},
    Field{common::queue_desc + 4, 4, Register::queue_desc_high},
    Field{common::queue_driver, 4, Register::queue_driver_low},
    Field{common::queue_driver + 4, 4, Register::queue_driver_high},
    Field{common::queue_device, 4, Register::queue_device_low},
    Field{common::queue_device + 4, 4, Register::queue_device_high},
};

const Field* find_field(std::uint64_t offset, std::size_t size) noexcept {
  const auto* found = std::ranges::find(fields, offset, &Field::offset);
  return found != fields.end() && found->size == size ? found : nullptr;
}

/// Whether [offset, offset + size) lies in the part of the BAR that begins at `start`.
bool within(std::uint64_t offset, std::size_t size, std::uint64_t start, std::uint64_t length) noexcept {
  return offset >= start && offset - start < length && size <= length - (offset - start);
}

std::uint16_t vector_count(const VirtioDevice& device) {
  const std::size_t queues = device.queue_sizes().size();
  if (queues > PciTransport::max_queues) {
    throw std::runtime_error(
        fmt::format("pci: virtio device {}: {} queues, more than {}", device.type(), queues, PciTransport::max_queues));
  }
  return static_cast<std::uint16_t>(queues + 1);
}

}  // namespace

static_assert(PciTransport::notify_offset + PciTransport::notify_stride * PciTransport::max_queues <=
              PciTransport::table_offset);
static_assert(PciTransport::table_offset + (PciTransport::max_queues + 1) * pci::msix::entry_size <=
              PciTransport::pending_offset);

PciTransport::PciTransport(VirtioDevice& device, EventLoop& loop, const GuestMemory& memory, std::uint32_t bar_address,
                           pci::Msix::Connect connect)
    : device_type_(device.type()),
      msix_(vector_count(device), std::move(connect)),
      vectors_(msix_.size()),
      registers_(device, loop, memory, *this) {
  build_header(bar_address);
  add_capabilities();
  forget_interrupts();
}

void PciTransport::build_header(std::uint32_t bar_address) {
  using namespace pci;
  config_.set(header::vendor_id, over_pci::vendor_id);
  config_.set(header::device_id, static_cast<std::uint16_t>(over_pci::first_modern_device + device_type_));
  config_.set(header::revision_id, over_pci::modern_revision);
  config_.set(header::base_class, class_unassigned);
  config_.set(header::subsystem_vendor_id, over_pci::vendor_id);
  config_.set(header::subsystem_id, over_pci::subsystem_id);
  config_.allow_writes(header::command,
                       static_cast<std::uint16_t>(command_memory | command_bus_master | command_no_intx));
  // 6.2.5.1: a 32-bit memory BAR; the bits that stay zero tell its size.
  config_.set(header::base_address, bar_address);
  config_.allow_writes(header::base_address, ~(bar_size - 1));
  config_.allow_writes(header::interrupt_line, std::uint8_t{0xFF});
}

void PciTransport::add_capabilities() {
  struct [[gnu::packed]] MsixBody {
    std::uint16_t control;
    std::uint32_t table;  // offset and, in the lowest three bits, the BAR
    std::uint32_t pending;
  };
  const MsixBody msix{static_cast<std::uint16_t>(msix_.size() - 1), table_offset, pending_offset};
  msix_capability_ = config_.add_capability(pci::capability_msix, std::as_bytes(std::span(&msix, 1)));
  config_.allow_writes(msix_capability_ + pci::msix::control_offset,
                       static_cast<std::uint16_t>(pci::msix::control_enable | pci::msix::control_mask_all));

  using enum over_pci::Structure;
  add_structure(common, common_offset, static_cast<std::uint32_t>(over_pci::common::size));
  add_structure(notify, notify_offset, notify_stride * queue_count(), notify_stride);
  add_structure(isr, isr_offset, 1);
  add_structure(over_pci::Structure::device, device_offset, device_size);
  window_capability_ = add_structure(pci_cfg, 0, 0, 0);
  config_.allow_writes(window_capability_ + over_pci::bar_field, std::uint8_t{0xFF});
  config_.allow_writes(window_capability_ + over_pci::offset_field, ~std::uint32_t{0});
  config_.allow_writes(window_capability_ + over_pci::size_field, ~std::uint32_t{0});
}

std::uint8_t PciTransport::add_structure(over_pci::Structure structure, std::uint32_t offset, std::uint32_t size,
                                         std::optional<std::uint32_t> extra) {
  struct [[gnu::packed]] Body {
    over_pci::Capability capability;
    std::uint32_t extra;
  };
  constexpr std::size_t before_body = 2;
  const std::size_t body_size = extra ? sizeof(Body) : sizeof(over_pci::Capability);
  const Body body{{.length = static_cast<std::uint8_t>(before_body + body_size),
                   .structure = structure,
                   .offset = offset,
                   .size = size},
                  extra.value_or(0)};
  return config_.add_capability(pci::capability_vendor, std::as_bytes(std::span(&body, 1)).first(body_size));
}

void PciTransport::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
  const std::lock_guard lock(mutex_);
  read_bar(offset, data);
}

void PciTransport::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
  const std::lock_guard lock(mutex_);
  write_bar(offset, data);
}

void PciTransport::read_bar(std::uint64_t offset, std::span<std::byte> data) noexcept {
  std::ranges::fill(data, std::byte{0});
  if (within(offset, data.size(), common_offset, common::size)) {
    const std::uint32_t value = read_common(offset - common_offset, data.size());
    std::memcpy(data.data(), &value, std::min(data.size(), sizeof value));
  } else if (within(offset, data.size(), device_offset, device_size)) {
    registers_.read_config(offset - device_offset, data);
  } else if (offset == isr_offset) {
    // 4.1.4.5: reading acknowledges.
    data[0] = static_cast<std::byte>(isr_.take());
  } else if (within(offset, data.size(), table_offset, pending_offset - table_offset)) {
    msix_.read_table(offset - table_offset, data);
  } else if (within(offset, data.size(), pending_offset, bar_size - pending_offset)) {
    msix_.read_pending(offset - pending_offset, data);
  }
}

void PciTransport::write_bar(std::uint64_t offset, std::span<const std::byte> data) noexcept {
  if (within(offset, data.size(), common_offset, common::size)) {
    std::uint32_t value = 0;
    std::memcpy(&value, data.data(), std::min(data.size(), sizeof value));
    write_common(offset - common_offset, data.size(), value);
  } else if (within(offset, data.size(), device_offset, device_size)) {
    registers_.write_config(offset - device_offset, data);
  } else if (within(offset, data.size(), notify_offset, table_offset - notify_offset)) {
    registers_.notify(static_cast<std::uint32_t>((offset - notify_offset) / notify_stride));
  } else if (within(offset, data.size(), table_offset, pending_offset - table_offset)) {
    msix_.write_table(offset - table_offset, data);
  }
}

std::uint32_t PciTransport::read_common(std::uint64_t offset, std::size_t size) noexcept {
  if (const Field* field = find_field(offset, size)) return registers_.read(field->which);
  if (const auto* vector = vector_register(offset, size)) return *vector;
  switch (offset) {
    case common::config_msix_vector:
    case common::queue_msix_vector:
      return over_pci::no_vector;
    case common::queue_notify_off:
      return registers_.selected_queue();
    default:
      faults_.warning("virtio device {}: {}-byte read of common configuration {:#x}", device_type_, size, offset);
      return 0;
  }
}

void PciTransport::write_common(std::uint64_t offset, std::size_t size, std::uint32_t value) noexcept {
  if (const Field* field = find_field(offset, size)) {
    registers_.write(field->which, value);
    if (field->which == Register::status && value == 0) forget_interrupts();
  } else if (auto* vector = vector_register(offset, size)) {
    // 4.1.5.1.2.1: a vector that cannot be mapped reads back as none.
    *vector = value < msix_.size() ? static_cast<std::uint16_t>(value) : over_pci::no_vector;
  } else {
    faults_.warning("virtio device {}: {}-byte write of common configuration {:#x}", device_type_, size, offset);
  }
}

/// The vector that this register of the common configuration stands for, if it is one and its queue exists.
std::atomic<std::uint16_t>* PciTransport::vector_register(std::uint64_t offset, std::size_t size) noexcept {
  if (size != sizeof(std::uint16_t)) return nullptr;
  if (offset == common::config_msix_vector) return &vectors_.back();
  if (offset != common::queue_msix_vector || registers_.selected_queue() >= queue_count()) return nullptr;
  return &vectors_[registers_.selected_queue()];
}

void PciTransport::forget_interrupts() noexcept {
  for (auto& vector : vectors_) vector = over_pci::no_vector;
  isr_.take();
}

void PciTransport::read_config(std::uint64_t offset, std::span<std::byte> data) noexcept {
  const std::lock_guard lock(mutex_);
  if (const auto access = window_access(offset, data.size())) return read_bar(access->offset, data);
  config_.read(offset, data);
}

void PciTransport::write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept {
  const std::lock_guard lock(mutex_);
  if (const auto access = window_access(offset, data.size())) return write_bar(access->offset, data);
  config_.write(offset, data);
  msix_.set_control(config_.get<std::uint16_t>(msix_capability_ + pci::msix::control_offset));
}

std::optional<PciTransport::WindowAccess> PciTransport::window_access(std::uint64_t offset,
                                                                      std::size_t size) const noexcept {
  if (offset != std::uint64_t{window_capability_} + over_pci::data_field) return std::nullopt;
  const auto bar = config_.get<std::uint8_t>(window_capability_ + over_pci::bar_field);
  const auto from = config_.get<std::uint32_t>(window_capability_ + over_pci::offset_field);
  const auto length = config_.get<std::uint32_t>(window_capability_ + over_pci::size_field);
  // 4.1.4.9.1: an aligned access of 1, 2 or 4 bytes, of the size that the configuration access has.
  const bool sized = length == size && (size == 1 || size == 2 || size == 4);
  if (bar != 0 || !sized || from % size != 0 || !within(from, size, 0, bar_size)) return std::nullopt;
  return WindowAccess{from, size};
}

void PciTransport::signal_used(std::span<const std::uint16_t> queues) noexcept {
  isr_.add(used_buffer);
  for (const std::uint16_t queue : queues) msix_.signal(vectors_[queue]);
}

void PciTransport::signal_configuration() noexcept {
  isr_.add(configuration_change);
  msix_.signal(vectors_.back());
}

}  // namespace minivm::virtio

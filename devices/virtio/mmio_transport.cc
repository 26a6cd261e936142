#include "devices/virtio/mmio_transport.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "devices/virtio/spec.h"

namespace minivm::virtio {
namespace {

constexpr std::uint32_t vendor_id = 0x494E'494D;  // "MINI"

// The registers that the driver may read, and those that it may write (VirtIO 1.2, 4.2.2).
std::optional<Register> readable(std::uint64_t offset) noexcept {
  switch (offset) {
    case mmio::device_features:
      return Register::device_features;
    case mmio::queue_num_max:
      return Register::queue_max_size;
    case mmio::queue_ready:
      return Register::queue_ready;
    case mmio::status:
      return Register::status;
    case mmio::config_generation:
      return Register::config_generation;
    default:
      return std::nullopt;
  }
}

std::optional<Register> writable(std::uint64_t offset) noexcept {
  switch (offset) {
    case mmio::device_features_sel:
      return Register::device_features_sel;
    case mmio::driver_features:
      return Register::driver_features;
    case mmio::driver_features_sel:
      return Register::driver_features_sel;
    case mmio::queue_sel:
      return Register::queue_sel;
    case mmio::queue_num:
      return Register::queue_size;
    case mmio::queue_ready:
      return Register::queue_ready;
    case mmio::queue_desc_low:
      return Register::queue_desc_low;
    case mmio::queue_desc_high:
      return Register::queue_desc_high;
    case mmio::queue_driver_low:
      return Register::queue_driver_low;
    case mmio::queue_driver_high:
      return Register::queue_driver_high;
    case mmio::queue_device_low:
      return Register::queue_device_low;
    case mmio::queue_device_high:
      return Register::queue_device_high;
    default:
      return std::nullopt;
  }
}

}  // namespace

void MmioTransport::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
  const std::lock_guard lock(mutex_);
  if (offset >= mmio::config) return registers_.read_config(offset - mmio::config, data);
  // VirtIO 1.2, 4.2.2.2: registers are accessed with aligned 32-bit reads and writes only.
  std::ranges::fill(data, std::byte{0});
  if (offset % sizeof(std::uint32_t) != 0 || data.size() != sizeof(std::uint32_t)) {
    faults_.warning("virtio device {}: {}-byte read of register {:#x}", device_type_, data.size(), offset);
    return;
  }
  const std::uint32_t value = read_register(offset);
  std::memcpy(data.data(), &value, sizeof value);
}

void MmioTransport::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
  const std::lock_guard lock(mutex_);
  if (offset >= mmio::config) return registers_.write_config(offset - mmio::config, data);
  std::uint32_t value = 0;
  if (offset % sizeof value != 0 || data.size() != sizeof value) {
    faults_.warning("virtio device {}: {}-byte write of register {:#x}", device_type_, data.size(), offset);
    return;
  }
  std::memcpy(&value, data.data(), sizeof value);
  write_register(offset, value);
}

std::uint32_t MmioTransport::read_register(std::uint64_t offset) const noexcept {
  if (const auto which = readable(offset)) return registers_.read(*which);
  switch (offset) {
    case mmio::magic_value:
      return mmio::magic;
    case mmio::version:
      return mmio::modern_version;
    case mmio::device_id:
      return device_type_;
    case mmio::vendor_id:
      return vendor_id;
    case mmio::interrupt_status:
      return interrupt_.status();
    default:
      // There is no shared memory region, which reads as length and base of -1; the rest is write-only or reserved.
      return offset >= mmio::shm_len_low && offset <= mmio::shm_base_high ? ~0U : 0;
  }
}

void MmioTransport::write_register(std::uint64_t offset, std::uint32_t value) noexcept {
  if (const auto which = writable(offset)) return registers_.write(*which, value);
  switch (offset) {
    case mmio::queue_notify:
      return registers_.notify(value);
    case mmio::interrupt_ack:
      return interrupt_.acknowledge(value);
    case mmio::status:
      registers_.write(Register::status, value);
      if (value == 0) interrupt_.clear();
      return;
    default:
      return;
  }
}

}  // namespace minivm::virtio

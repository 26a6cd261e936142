#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "devices/virtio/mmio_transport.h"
#include "devices/virtio/pci_transport.h"
#include "devices/virtio/spec.h"

namespace minivm::test {

/// A driver's way to the registers of a device, the same for every transport.
class DriverRegisters {
 public:
  virtual ~DriverRegisters() = default;

  virtual std::uint32_t in(virtio::Register which) = 0;
  virtual void out(virtio::Register which, std::uint32_t value) = 0;
  virtual void notify(std::uint32_t queue) = 0;
  /// The eventfd that stands for the notification.
  virtual int notify_fd(std::uint16_t queue) = 0;
  /// Takes the causes of interrupts.
  virtual std::uint32_t take_causes() = 0;
  virtual void read_config(std::uint64_t offset, std::span<std::byte> data) = 0;
  virtual void write_config(std::uint64_t offset, std::span<const std::byte> data) = 0;
  /// Registers lie below this offset; beyond are other things.
  virtual std::uint64_t size() = 0;
  virtual BusDevice& bus_device() = 0;
};

class MmioRegisters final : public DriverRegisters {
 public:
  MmioRegisters(virtio::VirtioDevice& device, EventLoop& loop, const GuestMemory& memory)
      : transport(device, loop, memory, interrupt) {}

  std::uint32_t in(virtio::Register which) override { return in(offset_of(which)); }
  void out(virtio::Register which, std::uint32_t value) override { out(offset_of(which), value); }
  void notify(std::uint32_t queue) override { out(virtio::mmio::queue_notify, queue); }
  int notify_fd(std::uint16_t queue) override { return transport.notify_fd(queue); }
  std::uint32_t take_causes() override {
    const std::uint32_t causes = in(virtio::mmio::interrupt_status);
    out(virtio::mmio::interrupt_ack, causes);
    return causes;
  }
  void read_config(std::uint64_t offset, std::span<std::byte> data) override {
    transport.read(virtio::mmio::config + offset, data);
  }
  void write_config(std::uint64_t offset, std::span<const std::byte> data) override {
    transport.write(virtio::mmio::config + offset, data);
  }
  std::uint64_t size() override { return virtio::mmio::config; }
  BusDevice& bus_device() override { return transport; }

  std::uint32_t in(std::uint64_t offset) {
    std::uint32_t value = 0xDEAD'BEEF;
    transport.read(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  void out(std::uint64_t offset, std::uint32_t value) { transport.write(offset, std::as_bytes(std::span(&value, 1))); }

  virtio::InterruptLine interrupt;
  virtio::MmioTransport transport;

 private:
  static std::uint64_t offset_of(virtio::Register which) {
    using virtio::Register;
    namespace mmio = virtio::mmio;
    switch (which) {
      case Register::device_features_sel:
        return mmio::device_features_sel;
      case Register::device_features:
        return mmio::device_features;
      case Register::driver_features_sel:
        return mmio::driver_features_sel;
      case Register::driver_features:
        return mmio::driver_features;
      case Register::status:
        return mmio::status;
      case Register::config_generation:
        return mmio::config_generation;
      case Register::queue_sel:
        return mmio::queue_sel;
      case Register::queue_max_size:
        return mmio::queue_num_max;
      case Register::queue_size:
        return mmio::queue_num;
      case Register::queue_ready:
        return mmio::queue_ready;
      case Register::queue_desc_low:
        return mmio::queue_desc_low;
      case Register::queue_desc_high:
        return mmio::queue_desc_high;
      case Register::queue_driver_low:
        return mmio::queue_driver_low;
      case Register::queue_driver_high:
        return mmio::queue_driver_high;
      case Register::queue_device_low:
        return mmio::queue_device_low;
      case Register::queue_device_high:
        return mmio::queue_device_high;
      case Register::queue_count:
        break;  // MMIO does not tell
    }
    return 0;
  }
};

class PciRegisters final : public DriverRegisters {
 public:
  static constexpr std::uint32_t bar = 0xD100'0000;

  PciRegisters(virtio::VirtioDevice& device, EventLoop& loop, const GuestMemory& memory)
      : transport(device, loop, memory, bar, [this](std::uint16_t vector, const pci::MsiMessage& message) {
          connected.emplace_back(vector, message);
        }) {}

  std::uint32_t in(virtio::Register which) override {
    const auto [offset, size] = place_of(which);
    return in(offset, size);
  }
  void out(virtio::Register which, std::uint32_t value) override {
    const auto [offset, size] = place_of(which);
    out(offset, size, value);
  }
  void notify(std::uint32_t queue) override {
    out(virtio::PciTransport::notify_address(static_cast<std::uint16_t>(queue)), 2, queue);
  }
  int notify_fd(std::uint16_t queue) override { return transport.notify_fd(queue); }
  std::uint32_t take_causes() override { return in(virtio::PciTransport::isr_offset, 1); }
  void read_config(std::uint64_t offset, std::span<std::byte> data) override {
    transport.read(virtio::PciTransport::device_offset + offset, data);
  }
  void write_config(std::uint64_t offset, std::span<const std::byte> data) override {
    transport.write(virtio::PciTransport::device_offset + offset, data);
  }
  std::uint64_t size() override { return virtio::over_pci::common::size; }
  BusDevice& bus_device() override { return transport; }

  std::uint32_t in(std::uint64_t offset, std::size_t size) {
    std::uint32_t value = 0;
    transport.read(offset, std::as_writable_bytes(std::span(&value, 1)).first(size));
    return value;
  }
  void out(std::uint64_t offset, std::size_t size, std::uint32_t value) {
    transport.write(offset, std::as_bytes(std::span(&value, 1)).first(size));
  }

  std::vector<std::pair<std::uint16_t, pci::MsiMessage>> connected;  // as KVM would be told
  virtio::PciTransport transport;

 private:
  static std::pair<std::uint64_t, std::size_t> place_of(virtio::Register which) {
    using virtio::Register;
    namespace common = virtio::over_pci::common;
    switch (which) {
      case Register::device_features_sel:
        return {common::device_features_sel, 4};
      case Register::device_features:
        return {common::device_features, 4};
      case Register::driver_features_sel:
        return {common::driver_features_sel, 4};
      case Register::driver_features:
        return {common::driver_features, 4};
      case Register::status:
        return {common::status, 1};
      case Register::config_generation:
        return {common::config_generation, 1};
      case Register::queue_count:
        return {common::num_queues, 2};
      case Register::queue_sel:
        return {common::queue_sel, 2};
      case Register::queue_max_size:  // what the size is before the driver chooses another
      case Register::queue_size:
        return {common::queue_size, 2};
      case Register::queue_ready:
        return {common::queue_enable, 2};
      case Register::queue_desc_low:
        return {common::queue_desc, 4};
      case Register::queue_desc_high:
        return {common::queue_desc + 4, 4};
      case Register::queue_driver_low:
        return {common::queue_driver, 4};
      case Register::queue_driver_high:
        return {common::queue_driver + 4, 4};
      case Register::queue_device_low:
        return {common::queue_device, 4};
      case Register::queue_device_high:
        return {common::queue_device + 4, 4};
    }
    return {0, 4};
  }
};

}  // namespace minivm::test

#pragma once

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <future>
#include <initializer_list>
#include <iostream>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "boot/long_mode.h"
#include "devices/bus.h"
#include "vmm/kvm.h"
#include "vmm/vcpu.h"

namespace minivm::test {

/// Whether there is KVM to test with. A host without says so on stderr; one where KVM is there but broken fails.
inline bool host_has_kvm() {
  if (::access("/dev/kvm", F_OK) == 0) return true;
  std::cerr << "not tested: this host has no /dev/kvm\n";
  return false;
}

/// x86-64 machine code, written down instruction by instruction.
class Code {
 public:
  /// One instruction.
  Code& op(std::initializer_list<std::uint8_t> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  /// One instruction that ends in `immediate`.
  template <typename T>
  Code& op(std::initializer_list<std::uint8_t> bytes, T immediate) {
    op(bytes);
    for (std::size_t i = 0; i < sizeof(T); ++i) bytes_.push_back(static_cast<std::uint8_t>(immediate >> 8 * i));
    return *this;
  }
  /// Tells the test that the guest is done (TinyGuest::wait_for_end), then does nothing for ever.
  Code& end() { return op({0xE6, end_port}).op({0xEB, 0xFE}); }  // out end_port, al; jmp itself

  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(bytes_)); }

  static constexpr std::uint8_t end_port = 0xF4;

 private:
  std::vector<std::uint8_t> bytes_;
};

/// Keeps all that was written to it; reads give the bytes 0x11, 0x12 and so on.
class RecordingDevice final : public BusDevice {
 public:
  struct Access {
    std::uint64_t offset;
    std::vector<std::byte> data;
    bool operator==(const Access&) const = default;
  };

  void read(std::uint64_t, std::span<std::byte> data) noexcept override {
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(0x11 + i);
  }
  void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override {
    const std::lock_guard lock(mutex_);
    writes_.push_back({offset, {data.begin(), data.end()}});
  }

  std::vector<Access> writes() const {
    const std::lock_guard lock(mutex_);
    return writes_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Access> writes_;
};

/// A virtual machine of a few instructions, in 64-bit mode with the first 4 GiB mapped to themselves:
///
///     TinyGuest guest;
///     guest.port_io.map(0x10, 1, device);
///     guest.add_vcpu(Code().op({0xE6, 0x10}).end());
///     guest.start();
///     guest.wait_for_end();
class TinyGuest {
 public:
  static constexpr std::uint64_t code_address = 0x10'0000;
  static constexpr std::uint64_t code_stride = 0x1000;  // between the code of one vCPU and the next
  static constexpr std::uint64_t data_address = 0x18'0000;
  static constexpr std::uint64_t mmio_address = 0xD000'0000;
  static constexpr auto patience = std::chrono::seconds(60);  // only a broken guest takes that long

  enum class Interrupts : std::uint8_t { none, in_kernel };

  explicit TinyGuest(Interrupts interrupts = Interrupts::none) {
    vm.set_memory(memory);
    if (interrupts == Interrupts::in_kernel) vm.create_irqchip();
    port_io.map(Code::end_port, 1, end_);
  }

  /// The first one starts at once, any other too as long as there are no `Interrupts`.
  Vcpu& add_vcpu(const Code& code) {
    const auto id = static_cast<std::uint32_t>(vcpus_.size());
    const std::uint64_t start = code_address + id * code_stride;
    if (!memory.write_bytes(Gpa{start}, code.bytes())) throw std::logic_error("tiny guest: code is not in RAM");
    boot::CpuState state;
    state.rip = start;
    state.rsp = start + code_stride;
    boot::enter_long_mode(memory, state);
    vcpus_.push_back(
        std::make_unique<Vcpu>(vm.create_vcpu(id), id, kvm.run_mapping_size(), memory, VcpuBuses{&port_io, &mmio}));
    vcpus_.back()->set_state(state);
    return *vcpus_.back();
  }

  void start() {
    for (const auto& vcpu : vcpus_) {
      vcpu->start([this](const VcpuStop& stop) { stops_.set_value(stop); });
    }
  }

  /// Waits for Code::end, and ends the vCPUs.
  void wait_for_end() {
    if (end_.reached.get_future().wait_for(patience) != std::future_status::ready) {
      throw std::runtime_error("tiny guest: did not come to its end");
    }
    stop();
  }
  /// Waits until a vCPU gives up by itself.
  VcpuStop wait_for_stop() {
    auto stopped = stops_.get_future();
    if (stopped.wait_for(patience) != std::future_status::ready) throw std::runtime_error("tiny guest: does not stop");
    return stopped.get();
  }
  void stop() {
    for (const auto& vcpu : vcpus_) vcpu->request_stop();
    for (const auto& vcpu : vcpus_) vcpu->join();
  }

  Kvm kvm;
  GuestMemory memory{std::uint64_t{2} << 20};
  Vm vm{kvm};
  Bus port_io;
  Bus mmio;

 private:
  struct End final : BusDevice {
    void read(std::uint64_t, std::span<std::byte>) noexcept override {}
    void write(std::uint64_t, std::span<const std::byte>) noexcept override { reached.set_value(); }
    std::promise<void> reached;
  };

  End end_;
  std::promise<VcpuStop> stops_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;  // last: their threads use the rest
};

}  // namespace minivm::test

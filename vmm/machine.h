#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/guest_memory.h"
#include "boot/kernel.h"
#include "boot/platform.h"
#include "devices/bus.h"
#include "devices/input_port.h"
#include "devices/pci/empty_bus.h"
#include "devices/power.h"
#include "devices/serial.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/console.h"
#include "devices/virtio/device.h"
#include "devices/virtio/vsock.h"
#include "minivm/config.h"
#include "minivm/timing.h"
#include "vmm/clock_watch.h"
#include "vmm/command_channel.h"
#include "vmm/console_output.h"
#include "vmm/device_slots.h"
#include "vmm/guest_clock.h"
#include "vmm/kvm.h"
#include "vmm/loop_thread.h"
#include "vmm/machine_statistics.h"
#include "vmm/vcpu.h"
#include "vmm/vsock_door.h"

namespace minivm {

/// How a machine ended.
struct MachineEnd {
  enum class Reason : std::uint8_t {
    power_off,      // the guest's wish
    reset,          // the guest's wish: minivm does not start it again
    panic,          // the guest's kernel said so before it reset
    triple_fault,   // the guest's CPU gave up
    guest_failed,   // PID 1 could not make the guest ready
    boot_deadline,  // the guest never became ready
    host_failed,    // KVM could not go on
    stopped,        // the owner's wish
  };

  Reason reason{};
  std::string detail;  // for people; empty when the reason says all
};

/// One virtual machine, whole: the constructor builds it up to the guest's first instruction, `run` runs it until it
/// ends. The members stand in the order of their lifetimes: what a later one uses, an earlier one owns.
class Machine {
 public:
  struct Events {
    std::function<void()> ready;  // the channel serves execs
  };

  /// `console` gets what the guest writes to its serial port. Throws when the host or a file says no.
  Machine(const MachineConfig& config, HostFile console, Events events);
  ~Machine();

  /// The loop that `run` turns: all but disks and the network lives on its thread.
  EventLoop& loop() noexcept { return loop_; }
  CommandChannel& channel() noexcept { return *channel_; }
  /// Where the guest's console takes input from.
  InputPort& input() noexcept;
  /// Tells the guest the size of the terminal that its console is on; a serial port cannot. Loop's thread, or before.
  void resize_console(std::uint16_t columns, std::uint16_t rows) noexcept;
  const ConsoleOutput& console() const noexcept { return console_; }
  /// What it reached until now; of an exec only its owner knows. Loop's thread, or without one running.
  Timing timing() const noexcept;

  /// Collects the machine's numbers; the guest gets a second to add its own. `on_statistics` is called once, on the
  /// loop's thread. Loop's thread.
  void statistics(std::function<void(const MachineStatistics&)> on_statistics);

  /// Runs the guest on this thread's loop until something ends it; the first reason counts.
  MachineEnd run();
  /// Any thread.
  void end(MachineEnd why);

 private:
  struct Device {
    std::unique_ptr<virtio::VirtioDevice> device;
    EventLoop* loop = nullptr;
  };

  EventLoop& add_device_loop(const std::string& name);
  void add_virtio(std::unique_ptr<virtio::VirtioDevice> device, EventLoop& loop);
  void add_disks(const MachineConfig& config);
  void add_legacy_devices();
  void add_console_port();
  void place_devices(boot::Transport transport);
  boot::CpuState load_guest(const MachineConfig& config);
  void connect_to_kvm();
  void create_vcpus(std::uint32_t count);
  void set_up_vcpus();
  void on_guest_reset();
  void on_guest_ready(const protocol::Ready& ready);
  CommandChannel::Events channel_events(Events events);

  Timing timing_{.building = monotonic_ns()};
  Kvm kvm_;
  GuestMemory memory_;
  Vm vm_;
  EventLoop loop_;
  ConsoleOutput console_;
  std::vector<std::unique_ptr<LoopThread>> device_loops_;
  std::vector<Device> virtio_;
  virtio::Vsock* vsock_ = nullptr;           // in virtio_
  virtio::Balloon* balloon_ = nullptr;       // in virtio_
  virtio::Console* console_port_ = nullptr;  // in virtio_, if the guest has one
  std::unique_ptr<Serial> serial_;
  std::unique_ptr<PowerPorts> power_;
  pci::EmptyBus no_pci_;  // where devices are not on PCI
  std::unique_ptr<CommandChannel> channel_;
  std::unique_ptr<VsockDoor> vsock_door_;    // when MachineConfig::vsock_socket asks for it
  std::unique_ptr<ClockWatch> clock_watch_;  // from READY on
  Bus port_io_;
  Bus mmio_;
  std::unique_ptr<DeviceSlots> slots_;
  boot::Platform platform_;
  std::chrono::milliseconds boot_deadline_;
  EventLoop::TimerId deadline_timer_ = 0;
  GuestClock guest_clock_;
  std::int64_t hello_ns_ = 0;
  std::mutex end_mutex_;
  std::optional<MachineEnd> end_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;  // last: their threads use all of the above
};

}  // namespace minivm

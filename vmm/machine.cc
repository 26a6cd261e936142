#include "vmm/machine.h"

#include <fmt/format.h>

#include <csignal>
#include <future>
#include <utility>

#include "base/log.h"
#include "boot/boot.h"
#include "boot/layout.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/rng.h"
#include "vmm/cpuid.h"
#include "vmm/filesystem_probe.h"
#include "vmm/guest_files.h"
#include "vmm/guest_modules.h"
#include "vmm/host_paths.h"
#include "vmm/kernel_search.h"
#include "vmm/network.h"

namespace minivm {
namespace {

/// A guest may have no time for it, or no driver.
constexpr std::chrono::seconds guest_statistics_deadline{1};

boot::Discovery to_boot(DeviceDiscovery discovery) {
  switch (discovery) {
    case DeviceDiscovery::acpi:
      return boot::Discovery::acpi;
    case DeviceDiscovery::fdt:
      return boot::Discovery::fdt;
    case DeviceDiscovery::command_line:
      return boot::Discovery::command_line;
    case DeviceDiscovery::automatic:
      break;
  }
  return boot::Discovery::automatic;
}

boot::Transport to_boot(DeviceTransport transport) {
  switch (transport) {
    case DeviceTransport::mmio:
      return boot::Transport::mmio;
    case DeviceTransport::pci:
      return boot::Transport::pci;
    case DeviceTransport::automatic:
      break;
  }
  return boot::Transport::automatic;
}

}  // namespace

Machine::Machine(const MachineConfig& config, HostFile console, Events events)
    : memory_(config.memory), vm_(kvm_), console_(loop_, std::move(console)), boot_deadline_(config.boot_deadline) {
  if (config.balloon >= config.memory) throw std::runtime_error("balloon: is not smaller than the memory");
  platform_.cpus = config.cpus;
  add_legacy_devices();
  auto vsock = std::make_unique<virtio::Vsock>(config.cid, loop_);
  vsock_ = vsock.get();
  add_virtio(std::move(vsock), loop_);
  if (uses_random_device(config)) add_virtio(std::make_unique<virtio::Rng>(), loop_);
  auto balloon = std::make_unique<virtio::Balloon>(memory_, config.balloon);
  balloon_ = balloon.get();
  add_virtio(std::move(balloon), loop_);
  add_disks(config);
  if (config.network.kind != Network::Kind::none) {
    EventLoop& loop = add_device_loop("net");
    add_virtio(make_network_device(config.network, config.hostname, loop), loop);
  }
  channel_ = std::make_unique<CommandChannel>(*vsock_, loop_, channel_events(std::move(events)));
  if (!config.vsock_socket.empty()) {
    vsock_door_ = std::make_unique<VsockDoor>(*vsock_, loop_, config.vsock_socket);
  }
  connect_to_kvm();
  create_vcpus(config.cpus);
  // All that maps memory is done: it would wait for the page faults of the guest's memory being filled.
  auto setting_up = std::async(std::launch::async, [this] { set_up_vcpus(); });
  const boot::CpuState state = load_guest(config);
  setting_up.get();
  slots_->connect(vm_);
  vcpus_.front()->set_state(state);
}

Machine::~Machine() {
  for (const auto& vcpu : vcpus_) vcpu->request_stop();
  vcpus_.clear();
  // Devices outlive the loops that run them.
  for (const auto& device_loop : device_loops_) device_loop->stop();
  console_.close();
}

void Machine::add_legacy_devices() {
  serial_ = std::make_unique<Serial>([this](std::span<const std::byte> bytes) { return console_.write(bytes); });
  console_.on_room([this] {
    serial_->resume_output();
    if (console_port_ != nullptr) console_port_->resume_output();
  });
  power_ = std::make_unique<PowerPorts>(
      [this] {
        end({MachineEnd::Reason::power_off, {}});
      },
      [this] { on_guest_reset(); });
  port_io_.map(layout::com1, layout::com1_size, *serial_);
  port_io_.map(layout::sleep_control, layout::power_ports_size, *power_);
}

void Machine::add_disks(const MachineConfig& config) {
  const auto add = [this](const Disk& disk, std::string_view serial) {
    EventLoop& loop = add_device_loop(fmt::format("blk-{}", serial));
    const virtio::Blk::Options options{
        .queues = static_cast<std::uint16_t>(platform_.cpus),
        .limit = {.operations = disk.operations_per_second, .bytes = disk.bytes_per_second}};
    virtio::DiskImage image = virtio::open_image(disk.path, disk.read_only,
                                                 disk.direct ? virtio::HostCache::bypassed : virtio::HostCache::used);
    add_virtio(std::make_unique<virtio::Blk>(std::move(image), serial, loop, options), loop);
  };
  if (config.root.kind == Root::Kind::disk) {
    Disk disk = config.root.disk;
    disk.read_only |= config.root.throw_away;
    add(disk, root_disk_serial);
  }
  for (std::size_t i = 0; i < config.disks.size(); ++i) add(config.disks[i], fmt::format("disk{}", i + 1));
}

EventLoop& Machine::add_device_loop(const std::string& name) {
  return device_loops_.emplace_back(std::make_unique<LoopThread>(name))->loop();
}

void Machine::add_virtio(std::unique_ptr<virtio::VirtioDevice> device, EventLoop& loop) {
  virtio_.push_back({std::move(device), &loop});
}

void Machine::add_console_port() {
  auto port = std::make_unique<virtio::Console>(virtio::Console::Sink{
      .room = [this] { return console_.room(); },
      .write = [this](std::span<const std::byte> bytes) { console_.write(bytes); },
  });
  console_port_ = port.get();
  add_virtio(std::move(port), loop_);
}

InputPort& Machine::input() noexcept {
  if (console_port_ != nullptr) return *console_port_;
  return *serial_;
}

void Machine::resize_console(std::uint16_t columns, std::uint16_t rows) noexcept {
  if (console_port_ != nullptr) console_port_->resize(columns, rows);
}

void Machine::place_devices(boot::Transport transport) {
  if (transport == boot::Transport::pci) {
    slots_ = std::make_unique<PciSlots>(memory_, mmio_, vm_);
  } else {
    slots_ = std::make_unique<MmioSlots>(memory_, mmio_);
    port_io_.map(pci::EmptyBus::port, pci::EmptyBus::port_count, no_pci_);
  }
  for (const Device& each : virtio_) slots_->add(*each.device, *each.loop);
  slots_->describe(platform_);
}

boot::CpuState Machine::load_guest(const MachineConfig& config) {
  const KernelChoice choice = find_kernel(config);
  const boot::Kernel kernel = boot::Kernel::open(
      choice.path, {.cache_directory = host_paths::cache() + "/unpacked", .unpack_in_guest = config.in_guest_unpack});
  log::info("kernel {} ({}): {} {}", choice.path, choice.why, kernel.release(), kernel.description());
  check_built_in(kernel);
  const std::string filesystem =
      config.root.kind == Root::Kind::disk ? probe_filesystem(config.root.disk.path) : std::string();
  const boot::Transport transport = boot::choose_transport(kernel, to_boot(config.transport));
  const bool on_hvc = uses_console_port(config, kernel);
  if (on_hvc) add_console_port();
  place_devices(transport);
  const std::vector<std::string> modules = find_guest_modules(
      kernel, find_modules(config, choice.path, kernel.release()), kernel_needs(config, transport, filesystem));
  const boot::Initramfs initramfs = make_initramfs(config, modules, filesystem);
  const boot::Discovery discovery = boot::choose_discovery(kernel, to_boot(config.discovery));
  if (transport == boot::Transport::pci && discovery != boot::Discovery::acpi) {
    throw std::runtime_error("devices: on PCI they are found by ACPI only");
  }
  const Announcement announcement{discovery, transport, on_hvc};
  const boot::CpuState state = boot::load(memory_, {.kernel = kernel,
                                                    .initramfs = initramfs,
                                                    .platform = platform_,
                                                    .command_line = make_command_line(config, announcement),
                                                    .discovery = discovery});
  timing_.kernel_mapped = monotonic_ns();
  return state;
}

/// In the order that KVM is fast in: memory, interrupt controller; the vCPUs follow, then the eventfds.
void Machine::connect_to_kvm() {
  vm_.set_memory(memory_);
  vm_.create_irqchip();
}

void Machine::create_vcpus(std::uint32_t count) {
  const std::size_t run_size = kvm_.run_mapping_size();
  for (std::uint32_t id = 0; id < count; ++id) {
    vcpus_.push_back(std::make_unique<Vcpu>(vm_.create_vcpu(id), id, run_size, memory_, VcpuBuses{&port_io_, &mmio_}));
  }
}

void Machine::set_up_vcpus() {
  const auto count = static_cast<std::uint32_t>(vcpus_.size());
  const bool tsc_deadline = kvm_.check_extension(KVM_CAP_TSC_DEADLINE_TIMER) != 0;
  auto cpuid = make_cpuid(kvm_.supported_cpuid(), count, vcpus_.front()->tsc_khz(), tsc_deadline);
  for (std::uint32_t id = 0; id < count; ++id) {
    set_apic_id(cpuid, id);
    vcpus_[id]->set_cpuid(cpuid);
    vcpus_[id]->set_boot_msrs();
  }
  vm_.bind_irqfd(serial_->interrupt_fd(), layout::com1_gsi);
  timing_.vm_created = monotonic_ns();
}

CommandChannel::Events Machine::channel_events(Events events) {
  return {
      .hello =
          [this](const protocol::Hello& hello) {
            hello_ns_ = monotonic_ns();
            guest_clock_.heard(hello.sent_ns, hello_ns_);
            if (console_port_ != nullptr) console_port_->announce_size();  // its driver is loaded
          },
      .ready =
          [this, on_ready = std::move(events.ready)](const protocol::Ready& ready) {
            clock_watch_ = std::make_unique<ClockWatch>(loop_, [this] { channel_->set_time(); });
            on_guest_ready(ready);
            on_ready();
          },
      .failed =
          [this](std::string reason) {
            end({MachineEnd::Reason::guest_failed, std::move(reason)});
          },
  };
}

void Machine::on_guest_reset() {
  end({console_.panicked() ? MachineEnd::Reason::panic : MachineEnd::Reason::reset, {}});
}

void Machine::on_guest_ready(const protocol::Ready& ready) {
  timing_.ready = monotonic_ns();
  loop_.cancel(deadline_timer_);
  guest_clock_.answered(hello_ns_, ready.welcomed_ns);
  guest_clock_.heard(ready.ready_ns, timing_.ready);
  timing_.init_started = guest_clock_.to_host(ready.init_started_ns).value_or(0);
  timing_.modules_loaded = guest_clock_.to_host(ready.modules_loaded_ns).value_or(0);
  timing_.root_mounted = guest_clock_.to_host(ready.root_mounted_ns).value_or(0);
  timing_.guest_ready = guest_clock_.to_host(ready.ready_ns).value_or(0);
  timing_.guest_error = guest_clock_.error();
}

Timing Machine::timing() const noexcept {
  Timing timing = timing_;
  timing.first_run = vcpus_.front()->first_run_ns();
  return timing;
}

void Machine::statistics(std::function<void(const MachineStatistics&)> on_statistics) {
  struct Collected {
    MachineStatistics statistics;
    std::function<void(const MachineStatistics&)> on_statistics;
    EventLoop::TimerId timer = 0;
  };
  auto collected = std::make_shared<Collected>(MachineStatistics{}, std::move(on_statistics));
  append_process_statistics(collected->statistics);
  append_exit_statistics(collected->statistics, vcpus_);
  collected->statistics.emplace_back("guest.balloon", balloon_->given());
  const auto finish = [collected] { std::exchange(collected->on_statistics, nullptr)(collected->statistics); };
  const bool asked = balloon_->request_statistics([this, collected, finish](const virtio::MemoryStatistics& guest) {
    if (!collected->on_statistics) return;  // too late
    append_guest_statistics(collected->statistics, guest);
    loop_.cancel(collected->timer);
    finish();
  });
  if (!asked) return finish();
  collected->timer = loop_.after(guest_statistics_deadline, finish);
}

MachineEnd Machine::run() {
  for (const auto& device_loop : device_loops_) device_loop->start();
  if (boot_deadline_.count() > 0) {
    deadline_timer_ = loop_.after(boot_deadline_, [this] {
      end({MachineEnd::Reason::boot_deadline,
           fmt::format("the guest was not ready after {} s", boot_deadline_.count() / 1000)});
    });
  }
  for (const auto& vcpu : vcpus_) {
    vcpu->start([this](VcpuStop stop) {
      if (stop.reason == VcpuStop::Reason::triple_fault && console_.panicked()) return on_guest_reset();
      const bool fault = stop.reason == VcpuStop::Reason::triple_fault;
      end({fault ? MachineEnd::Reason::triple_fault : MachineEnd::Reason::host_failed, std::move(stop.detail)});
    });
  }
  loop_.run();
  timing_.ended = monotonic_ns();
  const std::lock_guard lock(end_mutex_);
  return *end_;
}

void Machine::end(MachineEnd why) {
  {
    const std::lock_guard lock(end_mutex_);
    if (!end_) end_ = std::move(why);
  }
  loop_.stop();
}

}  // namespace minivm

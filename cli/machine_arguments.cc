#include "cli/machine_arguments.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "base/log.h"
#include "cli/disk_argument.h"
#include "cli/network_syntax.h"
#include "cli/option_group.h"
#include "cli/parsed_option.h"
#include "cli/units.h"
#include "vmm/state_directory.h"

namespace minivm {
namespace {

ConsoleChoice parse_console(const std::string& text) {
  using Kind = ConsoleChoice::Kind;
  if (text == "none") return {Kind::none, {}};
  if (text == "stdio") return {Kind::stdio, {}};
  if (text == "stderr") return {Kind::stderr_only, {}};
  if (text.starts_with("file:") && text.size() > 5) return {Kind::file, text.substr(5)};
  throw std::invalid_argument(text + ": not none, stdio, stderr or file:PATH");
}

DeviceDiscovery parse_discovery(const std::string& text) {
  if (text == "auto") return DeviceDiscovery::automatic;
  if (text == "acpi") return DeviceDiscovery::acpi;
  if (text == "fdt") return DeviceDiscovery::fdt;
  if (text == "cmdline") return DeviceDiscovery::command_line;
  throw std::invalid_argument(fmt::format("{}: not auto, acpi, fdt or cmdline", text));
}

DeviceTransport parse_transport(const std::string& text) {
  if (text == "auto") return DeviceTransport::automatic;
  if (text == "mmio") return DeviceTransport::mmio;
  if (text == "pci") return DeviceTransport::pci;
  throw std::invalid_argument(fmt::format("{}: not auto, mmio or pci", text));
}

ConsolePort parse_console_port(const std::string& text) {
  if (text == "auto") return ConsolePort::automatic;
  if (text == "serial") return ConsolePort::serial;
  if (text == "virtio") return ConsolePort::virtio;
  throw std::invalid_argument(fmt::format("{}: not auto, serial or virtio", text));
}

std::uint64_t parse_memory(const std::string& text) {
  constexpr std::uint64_t granule = std::uint64_t{2} << 20;
  const std::uint64_t bytes = parse_size(text) / granule * granule;
  const auto pages = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES));
  const std::uint64_t host = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (bytes < MachineConfig::min_memory) {
    throw std::invalid_argument(fmt::format("{}: less than {} MiB", text, MachineConfig::min_memory >> 20));
  }
  if (bytes > host) throw std::invalid_argument(fmt::format("{}: the host has {} MiB", text, host >> 20));
  return bytes;
}

std::string parse_name(const std::string& text) {
  if (is_machine_name(text)) return text;
  throw std::invalid_argument(text + ": not 1 to 63 letters, digits, _ . - that start with a letter or digit");
}

}  // namespace

MachineArguments::MachineArguments(CLI::App& command, MachineOptions& options) : options_(options) {
  add_kernel_options(add_group(command, "Kernel"));
  add_root_options(add_group(command, "Root and disks"));
  add_network_options(add_group(command, "Network"));
  add_hardware_options(add_group(command, "Machine"));
  add_lifetime_options(command);
}

void MachineArguments::add_kernel_options(CLI::App& group) {
  MachineConfig& machine = options_.machine;
  group
      .add_option("--kernel,-k", machine.kernel,
                  "bzImage or ELF vmlinux\n(default: $MINIVM_KERNEL, minivm's own, the host's)")
      ->type_name("FILE");
  group.add_option("--modules", machine.modules, "its modules (default: beside it, or /lib/modules/RELEASE)")
      ->type_name("DIR");
  group.add_option("--initrd", machine.initrd, "an initramfs to unpack over minivm's; without --rootfs it is the root")
      ->type_name("FILE");
  group.add_option("--append", machine.append, "more words for the kernel command line")->type_name("WORDS");
  add_parsed(group, "--discovery",
             "how the guest learns of its devices: auto, acpi, fdt, cmdline (without ACPI, so of one CPU)",
             [&machine](const std::string& text) { machine.discovery = parse_discovery(text); })
      ->type_name("HOW");
  add_parsed(group, "--transport", "what the devices sit on: auto, mmio, pci", [&machine](const std::string& text) {
    machine.transport = parse_transport(text);
  })->type_name("HOW");
  group.add_flag("--kaslr", machine.in_guest_unpack, "let the kernel unpack itself, at a random address (slower)");
}

void MachineArguments::add_root_options(CLI::App& group) {
  MachineConfig& machine = options_.machine;
  add_parsed(group, "--rootfs,-r", "a raw image with the root file system", [this, &machine](const std::string& text) {
    const DiskArgument root = parse_disk(text);
    machine.root.disk = root.disk;
    root_access_ = root.access;
    machine.root.kind = Root::Kind::disk;
  })->type_name("FILE[:ro|:rw][,SETTING...]");
  group.add_flag("--ephemeral", ephemeral_, "keep changes to the root in the guest's RAM, gone with it");
  add_parsed(group, "--disk",
             "one more raw image or block device; may be given again.\nSettings of disks: direct (past the host's page "
             "cache), iops=N and bps=SIZE (limits a second)",
             [&machine](const std::string& text) { machine.disks.push_back(parse_disk(text).disk); })
      ->type_name("FILE[:ro][,SETTING...]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void MachineArguments::add_network_options(CLI::App& group) {
  add_parsed(group, "--net",
             "none (the default); user: a network of its own, no root needed; tap=NAME or fd=N: a TAP interface\n"
             "user,no-host: the host's 127.0.0.1 is not at 10.0.2.2; tap takes ip=A/N, gw=A, dns=A, queues=N",
             [this](const std::string& text) { network_ = parse_network(text); })
      ->type_name("HOW");
  add_parsed(group, "--publish,-p",
             "a port of the host that leads to one of the guest, by --net user; may be given again",
             [this](const std::string& text) { ports_.push_back(parse_published_port(text)); })
      ->type_name("[ADDRESS:]HOST:GUEST[/udp]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_parsed(group, "--mac", "the network device's address (default: a random one)", [this](const std::string& text) {
    mac_ = parse_mac(text);
  })->type_name("MAC");
}

void MachineArguments::add_hardware_options(CLI::App& group) {
  MachineConfig& machine = options_.machine;
  group.add_option("--cpus,-c", machine.cpus, "virtual CPUs (default 1)")
      ->check(CLI::Range(1U, MachineConfig::max_cpus).description(""))
      ->type_name("N");
  add_parsed(group, "--memory,-m", "RAM, taken from the host as the guest uses it (default 1G)",
             [&machine](const std::string& text) { machine.memory = parse_memory(text); })
      ->type_name("SIZE");
  add_parsed(group, "--balloon", "how much of the RAM the guest leaves alone until it runs out of memory",
             [&machine](const std::string& text) { machine.balloon = parse_size(text); })
      ->type_name("SIZE");
  group.add_option("--cid", machine.cid, "the guest's vsock address (default 3)")
      ->check(CLI::Range(MachineConfig::min_cid, std::uint64_t{0xFFFF'FFFE}).description(""))
      ->type_name("N");
  group
      .add_option("--vsock-socket", machine.vsock_socket,
                  "a Unix socket to make: CONNECT PORT there leads to the guest's vsock port; FILE_PORT is for the "
                  "guest's own connections")
      ->type_name("FILE");
  group.add_option("--hostname", machine.hostname, "(default minivm)")->type_name("NAME");
  group.add_option("--init", machine.init, "becomes PID 1, for instance /sbin/init")->type_name("PATH");
  group.add_flag("--rng", machine.random_device, "a virtio-rng device, which a CPU without RDRAND gets in any case");
  add_parsed(group, "--console", "where the console goes: none, stdio, stderr, file:PATH",
             [this](const std::string& text) { options_.console = parse_console(text); })
      ->type_name("WHERE");
  add_parsed(group, "--console-port", "what the console is on: serial (ttyS0, the default), virtio (hvc0), auto",
             [&machine](const std::string& text) { machine.console_port = parse_console_port(text); })
      ->type_name("PORT");
  add_parsed(group, "--boot-timeout", "how long the guest may take to get ready (default 60s, 0: for ever)",
             [&machine](const std::string& text) { machine.boot_deadline = parse_duration(text); })
      ->type_name("TIME");
}

void MachineArguments::add_lifetime_options(CLI::App& command) {
  add_parsed(command, "--timeout", "end everything after this long, with exit code 124",
             [this](const std::string& text) { options_.timeout = parse_duration(text); })
      ->type_name("TIME");
  CLI::App& group = add_group(command, "Background");
  group.add_flag("--detach,-d", options_.detach, "return when it is up, and print its name");
  add_parsed(group, "--name", "the machine's name, for exec, stop and the like (default: made up with -d)",
             [this](const std::string& text) { options_.name = parse_name(text); })
      ->type_name("NAME");
  group.add_flag("--rm", options_.remove, "leave nothing behind, not even logs and exit code");
  command.add_option("--json", options_.json_file, "write a record of how it ended")->type_name("FILE");
  command.add_flag("--timing", options_.timing, "tell on stderr what took how long, from exec to the end");
  command.add_flag("--verbose,-v", verbosity_, "tell what is done, and --timing; twice: the guest too");
}

void MachineArguments::settle(bool throw_away_by_default) {
  log::set_level(verbosity_ == 0 ? log::Level::warning : verbosity_ == 1 ? log::Level::info : log::Level::debug);
  MachineConfig& machine = options_.machine;
  Root& root = machine.root;
  if (root.kind == Root::Kind::built_in && !machine.initrd.empty()) root.kind = Root::Kind::initrd;
  if (ephemeral_ && root_access_ == DiskAccess::read_write) {
    throw std::invalid_argument("--ephemeral and a --rootfs that ends in :rw exclude each other");
  }
  root.throw_away =
      root.kind == Root::Kind::disk && (ephemeral_ || (throw_away_by_default && root_access_ == DiskAccess::unsaid));
  machine.verbose_guest = verbosity_ >= 2;
  options_.timing |= verbosity_ >= 1;
  if (options_.detach && options_.console.kind == ConsoleChoice::Kind::stderr_only) {
    throw std::invalid_argument("--console stderr and --detach exclude each other");
  }
  // The process in the background leaves this directory.
  if (options_.detach && !options_.json_file.empty()) {
    options_.json_file = std::filesystem::absolute(options_.json_file).string();
  }
  if (options_.detach && !machine.vsock_socket.empty()) {
    machine.vsock_socket = std::filesystem::absolute(machine.vsock_socket).string();
  }
  // In the background it is a log.
  if (options_.detach && options_.console.kind == ConsoleChoice::Kind::stdio) options_.console = {};
  settle_network();
}

void MachineArguments::settle_network() {
  Network& network = options_.machine.network;
  network = network_.value_or(Network{.kind = ports_.empty() ? Network::Kind::none : Network::Kind::user});
  network.ports = ports_;
  network.mac = mac_;
  if (!ports_.empty() && network.kind != Network::Kind::user) {
    throw std::invalid_argument("--publish: only --net user has ports to publish");
  }
}

}  // namespace minivm

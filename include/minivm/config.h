#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace minivm {

/// A raw disk image or block device of the host.
struct Disk {
  std::string path;
  bool read_only = false;
  bool direct = false;                      // past the host's page cache
  std::uint64_t operations_per_second = 0;  // 0: as many as it can
  std::uint64_t bytes_per_second = 0;
};

/// What the guest's root is mounted from.
struct Root {
  enum class Kind : std::uint8_t {
    built_in,  // the small default root, unpacked into the guest's RAM
    disk,      // a file system on `disk`
    initrd,    // MachineConfig::initrd is a whole root of its own, with its own /init
  };

  Kind kind = Kind::built_in;
  Disk disk;
  bool throw_away = false;  // changes go to a layer in the guest's RAM, and are gone with the guest
};

/// A port of the host that leads to one of the guest.
struct PublishedPort {
  std::string host_address = "127.0.0.1";  // IPv4 or IPv6
  std::uint16_t host_port = 0;
  std::uint16_t guest_port = 0;
  bool udp = false;
};

/// The guest's network device, and what its addresses are.
struct Network {
  enum class Kind : std::uint8_t {
    none,
    user,  // a network of its own behind this process: 10.0.2.15 and fec0::15, the host is 10.0.2.2
    tap,   // a TAP interface of the host, by name or by descriptors
  };

  Kind kind = Kind::none;
  std::vector<PublishedPort> ports;  // user
  bool host_loopback = true;         // user: the host's own services on 127.0.0.1 answer at 10.0.2.2
  std::string tap;                   // the interface's name; empty: `tap_fds`
  std::vector<int> tap_fds;          // opened by the caller, one for each queue; duplicated, never closed
  std::uint16_t tap_queues = 1;      // for `tap`
  // What the guest is configured with on a TAP interface; nothing: it looks after itself.
  std::vector<std::string> addresses;              // "192.168.5.2/24"
  std::vector<std::string> gateways;               // "192.168.5.1"
  std::vector<std::string> name_servers;           // "192.168.5.1"
  std::optional<std::array<std::uint8_t, 6>> mac;  // a random one of the locally administered when there is none
};

/// How the guest learns of its devices; `automatic` reads the kernel's configuration.
enum class DeviceDiscovery : std::uint8_t { automatic, acpi, fdt, command_line };

/// What the virtio devices sit on; `automatic` is MMIO unless the kernel's configuration lacks it.
enum class DeviceTransport : std::uint8_t { automatic, mmio, pci };

/// What the guest's console is on: the 16550, whose every character costs the host two exits, or virtio-console, whose
/// driver comes later in the boot. `automatic` takes the second when the kernel has the driver built in.
enum class ConsolePort : std::uint8_t { automatic, serial, virtio };

/// Everything that makes one machine. Empty strings and lists mean "the default".
struct MachineConfig {
  static constexpr std::uint32_t max_cpus = 64;
  static constexpr std::uint64_t min_memory = std::uint64_t{32} << 20;
  static constexpr std::uint64_t default_memory = std::uint64_t{1} << 30;
  static constexpr std::uint64_t min_cid = 3;

  std::string kernel;   // bzImage or ELF vmlinux; see find_kernel for the default
  std::string modules;  // /lib/modules/RELEASE of that kernel
  std::string initrd;   // unpacked over minivm's own initramfs
  std::string append;   // added to the kernel command line
  Root root;
  std::vector<Disk> disks;  // /dev/vdb and on, or /dev/vda and on without a root disk
  Network network;
  std::string init;  // becomes PID 1 in the guest; empty: minivm's own
  std::string hostname = "minivm";
  std::uint32_t cpus = 1;
  std::uint64_t memory = default_memory;  // bytes, a multiple of 2 MiB
  std::uint64_t balloon = 0;              // bytes of it that the guest leaves to the host until it runs out of memory
  std::uint64_t cid = min_cid;            // the guest's vsock address
  std::string vsock_socket;               // Unix socket through which host programs reach guest ports; empty: none
  DeviceDiscovery discovery = DeviceDiscovery::automatic;
  ConsolePort console_port = ConsolePort::serial;
  DeviceTransport transport = DeviceTransport::automatic;
  bool random_device = false;                       // virtio-rng also for a CPU that has RDRAND
  bool in_guest_unpack = false;                     // leave decompression, and with it KASLR, to the kernel
  bool verbose_guest = false;                       // kernel and PID 1 tell the console what they do
  std::chrono::milliseconds boot_deadline{60'000};  // from the first instruction to READY
};

/// A resource limit as of setrlimit(2).
struct Limit {
  static constexpr std::uint64_t unlimited = ~std::uint64_t{0};

  int resource = 0;  // RLIMIT_*
  std::uint64_t soft = unlimited;
  std::uint64_t hard = unlimited;
};

/// A program to run in the guest. argv[0] is looked up in the guest's PATH.
struct Command {
  std::vector<std::string> argv;
  std::vector<std::string> env;  // "K=V"
  std::string directory;
  std::string user;    // "name|uid[:group|gid]"
  std::string upload;  // a host ELF64 file, executed from the guest's memory under the name argv[0]
  bool tty = false;
  bool built_in = false;  // argv[0] names a program that minivm's own init brings along, and not one of the root
  std::uint32_t umask = 022;
  std::vector<Limit> limits;  // at most one for each resource; without one the guest's own default holds
};

/// How a program in the guest ended.
struct ExitStatus {
  int code = 0;    // its exit code; 128 + signal when a signal ended it
  int signal = 0;  // 0: it exited by itself
  bool out_of_memory = false;
};

}  // namespace minivm

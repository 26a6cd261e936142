#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "protocol/wire.h"

namespace minivm::protocol {

/// Where the initramfs holds what PID 1 needs. All of it lies under one directory, so that a user's own initrd, which
/// is unpacked over the same tree, is unlikely to meet it.
namespace initramfs {
inline constexpr std::string_view init = "minivm/init";        // PID 1, started by rdinit=/minivm/init
inline constexpr std::string_view config = "minivm/config";    // an encoded GuestConfig
inline constexpr std::string_view modules = "minivm/modules";  // NNN-name.ko, loaded in the order of their names
inline constexpr std::string_view root = "minivm/root";        // the root tree when GuestConfig::root is initramfs
inline constexpr std::string_view links = "minivm/links";  // symbolic links to make in that tree: "TARGET PATH" lines
}  // namespace initramfs

/// What the host tells PID 1 about this boot, in a file of the initramfs: a command line is too short, needs quoting
/// and is readable by everyone.
struct GuestConfig {
  enum class Root : std::uint32_t {
    initramfs = 0,  // the tree under minivm/root
    disk = 1,       // the virtio-blk device whose serial number is `root_disk`
    user = 2,       // the user's initrd: its own /init takes over when `init` is empty
  };
  static constexpr std::uint32_t read_only = 1U << 0;  // mount the root read-only
  static constexpr std::uint32_t overlay = 1U << 1;    // throw-away layer in RAM above it
  static constexpr std::uint32_t verbose = 1U << 2;    // tell the console about each step
  static constexpr std::uint32_t network = 1U << 3;    // there is a network device to set up

  Root root = Root::initramfs;
  std::uint32_t flags = 0;
  std::string_view root_disk;    // GET_ID string of the virtio-blk device, at most 20 bytes
  std::string_view filesystems;  // types to try on it, separated by commas; empty: all that the kernel offers
  std::string_view hostname;
  std::string_view init;             // absolute path in the root that becomes PID 1; empty: ours stays PID 1
  std::uint32_t power_off_port = 0;  // I/O port and value that end the machine, for kernels without ACPI
  std::uint32_t power_off_value = 0;
  // Of the network device, IPv4 and IPv6, separated by commas.
  std::string_view addresses;  // each with the size of its prefix: "10.0.2.15/24"
  std::string_view gateways;
  std::string_view name_servers;

  void encode(Writer& writer) const noexcept {
    writer.put(static_cast<std::uint32_t>(root));
    writer.put(flags);
    writer.put_string(root_disk);
    writer.put_string(filesystems);
    writer.put_string(hostname);
    writer.put_string(init);
    writer.put(power_off_port);
    writer.put(power_off_value);
    writer.put_string(addresses);
    writer.put_string(gateways);
    writer.put_string(name_servers);
  }
  static std::optional<GuestConfig> decode(Reader reader) noexcept {
    GuestConfig config;
    config.root = static_cast<Root>(reader.get<std::uint32_t>());
    config.flags = reader.get<std::uint32_t>();
    config.root_disk = reader.get_string();
    config.filesystems = reader.get_string();
    config.hostname = reader.get_string();
    config.init = reader.get_string();
    config.power_off_port = reader.get<std::uint32_t>();
    config.power_off_value = reader.get<std::uint32_t>();
    config.addresses = reader.get_string();
    config.gateways = reader.get_string();
    config.name_servers = reader.get_string();
    return reader.ok() ? std::optional(config) : std::nullopt;
  }
};

}  // namespace minivm::protocol

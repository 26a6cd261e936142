#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

/// The numbers and wire structures of VirtIO 1.2, each under the section that defines it. Everything is little-endian.
namespace minivm::virtio {

static_assert(std::endian::native == std::endian::little, "wire structures are used as they are");

constexpr std::uint64_t feature_bit(unsigned number) noexcept { return std::uint64_t{1} << number; }

/// Device IDs (5).
namespace device_id {
inline constexpr std::uint32_t net = 1;
inline constexpr std::uint32_t blk = 2;
inline constexpr std::uint32_t console = 3;
inline constexpr std::uint32_t rng = 4;
inline constexpr std::uint32_t balloon = 5;
inline constexpr std::uint32_t vsock = 19;
}  // namespace device_id

/// Feature bits of rings and transports (6).
namespace feature {
inline constexpr std::uint64_t indirect_desc = feature_bit(28);
inline constexpr std::uint64_t event_idx = feature_bit(29);
inline constexpr std::uint64_t version_1 = feature_bit(32);
}  // namespace feature

/// Device status (2.1).
namespace status {
inline constexpr std::uint32_t acknowledge = 1;
inline constexpr std::uint32_t driver = 2;
inline constexpr std::uint32_t driver_ok = 4;
inline constexpr std::uint32_t features_ok = 8;
inline constexpr std::uint32_t needs_reset = 64;
inline constexpr std::uint32_t failed = 128;
}  // namespace status

/// The split ring (2.7).
inline constexpr std::uint64_t descriptor_table_alignment = 16;
inline constexpr std::uint64_t available_ring_alignment = 2;
inline constexpr std::uint64_t used_ring_alignment = 4;
inline constexpr std::uint16_t max_queue_size = 32768;

/// An entry of the descriptor table, or of an indirect table (2.7.5).
struct Descriptor {
  static constexpr std::uint16_t next_flag = 1;
  static constexpr std::uint16_t write_flag = 2;
  static constexpr std::uint16_t indirect_flag = 4;

  std::uint64_t address = 0;
  std::uint32_t length = 0;
  std::uint16_t flags = 0;
  std::uint16_t next = 0;
};
static_assert(sizeof(Descriptor) == 16);

/// The available ring (2.7.6): flags and idx, `size` heads, used_event.
inline constexpr std::uint16_t available_no_interrupt = 1;
inline constexpr std::uint64_t available_idx_offset = 2;
inline constexpr std::uint64_t available_entries_offset = 4;
constexpr std::uint64_t used_event_offset(std::uint16_t size) noexcept {
  return available_entries_offset + std::uint64_t{2} * size;
}

/// The used ring (2.7.8): flags and idx, `size` elements, avail_event.
struct UsedElement {
  std::uint32_t id = 0;
  std::uint32_t length = 0;
};
static_assert(sizeof(UsedElement) == 8);
inline constexpr std::uint16_t used_no_notify = 1;
inline constexpr std::uint64_t used_idx_offset = 2;
inline constexpr std::uint64_t used_entries_offset = 4;
constexpr std::uint64_t available_event_offset(std::uint16_t size) noexcept {
  return used_entries_offset + sizeof(UsedElement) * size;
}

/// MMIO registers (4.2.2), each 32 bits wide; configuration space follows them.
namespace mmio {
inline constexpr std::uint64_t magic_value = 0x000;
inline constexpr std::uint64_t version = 0x004;
inline constexpr std::uint64_t device_id = 0x008;
inline constexpr std::uint64_t vendor_id = 0x00C;
inline constexpr std::uint64_t device_features = 0x010;
inline constexpr std::uint64_t device_features_sel = 0x014;
inline constexpr std::uint64_t driver_features = 0x020;
inline constexpr std::uint64_t driver_features_sel = 0x024;
inline constexpr std::uint64_t queue_sel = 0x030;
inline constexpr std::uint64_t queue_num_max = 0x034;
inline constexpr std::uint64_t queue_num = 0x038;
inline constexpr std::uint64_t queue_ready = 0x044;
inline constexpr std::uint64_t queue_notify = 0x050;
inline constexpr std::uint64_t interrupt_status = 0x060;
inline constexpr std::uint64_t interrupt_ack = 0x064;
inline constexpr std::uint64_t status = 0x070;
inline constexpr std::uint64_t queue_desc_low = 0x080;
inline constexpr std::uint64_t queue_desc_high = 0x084;
inline constexpr std::uint64_t queue_driver_low = 0x090;
inline constexpr std::uint64_t queue_driver_high = 0x094;
inline constexpr std::uint64_t queue_device_low = 0x0A0;
inline constexpr std::uint64_t queue_device_high = 0x0A4;
inline constexpr std::uint64_t shm_len_low = 0x0B0;
inline constexpr std::uint64_t shm_base_high = 0x0BC;
inline constexpr std::uint64_t config_generation = 0x0FC;
inline constexpr std::uint64_t config = 0x100;

inline constexpr std::uint32_t magic = 0x7472'6976;  // "virt"
inline constexpr std::uint32_t modern_version = 2;
}  // namespace mmio

/// Virtio over PCI (4.1).
namespace over_pci {
inline constexpr std::uint16_t vendor_id = 0x1AF4;            // 4.1.2
inline constexpr std::uint16_t first_modern_device = 0x1040;  // 4.1.2: plus the device ID
inline constexpr std::uint8_t modern_revision = 1;            // 4.1.2.1: or higher
inline constexpr std::uint16_t subsystem_id = 0x40;           // 4.1.2.1: or higher

/// Structures that a vendor capability points to (4.1.4).
enum class Structure : std::uint8_t { common = 1, notify = 2, isr = 3, device = 4, pci_cfg = 5 };

/// The capability (4.1.4) behind its ID and its link; those for `notify` and `pci_cfg` have four more bytes.
struct [[gnu::packed]] Capability {
  std::uint8_t length = 16;  // of all, ID and link included
  Structure structure{};
  std::uint8_t bar = 0;
  std::uint8_t id = 0;
  std::array<std::uint8_t, 2> padding{};
  std::uint32_t offset = 0;
  std::uint32_t size = 0;
};
static_assert(sizeof(Capability) == 14);
// The fields of the capability for `pci_cfg` (4.1.4.9) that the driver writes, from the beginning of the capability.
inline constexpr std::uint8_t bar_field = 4;
inline constexpr std::uint8_t offset_field = 8;
inline constexpr std::uint8_t size_field = 12;
inline constexpr std::uint8_t data_field = 16;

/// The common configuration structure (4.1.4.3).
namespace common {
inline constexpr std::uint64_t device_features_sel = 0x00;
inline constexpr std::uint64_t device_features = 0x04;
inline constexpr std::uint64_t driver_features_sel = 0x08;
inline constexpr std::uint64_t driver_features = 0x0C;
inline constexpr std::uint64_t config_msix_vector = 0x10;
inline constexpr std::uint64_t num_queues = 0x12;
inline constexpr std::uint64_t status = 0x14;
inline constexpr std::uint64_t config_generation = 0x15;
inline constexpr std::uint64_t queue_sel = 0x16;
inline constexpr std::uint64_t queue_size = 0x18;
inline constexpr std::uint64_t queue_msix_vector = 0x1A;
inline constexpr std::uint64_t queue_enable = 0x1C;
inline constexpr std::uint64_t queue_notify_off = 0x1E;
inline constexpr std::uint64_t queue_desc = 0x20;
inline constexpr std::uint64_t queue_driver = 0x28;
inline constexpr std::uint64_t queue_device = 0x30;
inline constexpr std::uint64_t size = 0x3C;
}  // namespace common

/// 4.1.5.1.2.1: maps a cause to no vector at all.
inline constexpr std::uint16_t no_vector = 0xFFFF;
}  // namespace over_pci

/// Block device (5.2).
namespace blk {
inline constexpr std::uint64_t feature_seg_max = feature_bit(2);
inline constexpr std::uint64_t feature_ro = feature_bit(5);
inline constexpr std::uint64_t feature_blk_size = feature_bit(6);
inline constexpr std::uint64_t feature_flush = feature_bit(9);
inline constexpr std::uint64_t feature_topology = feature_bit(10);
inline constexpr std::uint64_t feature_config_wce = feature_bit(11);
inline constexpr std::uint64_t feature_mq = feature_bit(12);
inline constexpr std::uint64_t feature_discard = feature_bit(13);
inline constexpr std::uint64_t feature_write_zeroes = feature_bit(14);

inline constexpr std::uint64_t sector_size = 512;
inline constexpr std::size_t id_size = 20;

/// The configuration layout (5.2.4), as far as our features give it meaning.
struct Config {
  std::uint64_t capacity = 0;  // in sectors
  std::uint32_t size_max = 0;
  std::uint32_t seg_max = 0;
  std::array<std::uint8_t, 4> geometry{};
  std::uint32_t blk_size = 0;           // bytes of a logical block
  std::uint8_t physical_block_exp = 0;  // a physical block has 2^this logical ones
  std::uint8_t alignment_offset = 0;    // of the first physical block, in logical blocks
  std::uint16_t min_io_size = 0;        // in logical blocks
  std::uint32_t opt_io_size = 0;        // in logical blocks
  std::uint8_t writeback = 0;           // the one field that the driver may write
  std::uint8_t unused = 0;
  std::uint16_t num_queues = 0;
  std::uint32_t max_discard_sectors = 0;
  std::uint32_t max_discard_seg = 0;
  std::uint32_t discard_sector_alignment = 0;
  std::uint32_t max_write_zeroes_sectors = 0;
  std::uint32_t max_write_zeroes_seg = 0;
  std::uint8_t write_zeroes_may_unmap = 0;
  std::array<std::uint8_t, 7> reserved{};  // 3 bytes of its own, then what secure erase would have
};
static_assert(sizeof(Config) == 64);

/// What a request begins with (5.2.6).
struct RequestHeader {
  std::uint32_t type = 0;
  std::uint32_t reserved = 0;
  std::uint64_t sector = 0;
};
static_assert(sizeof(RequestHeader) == 16);

inline constexpr std::uint32_t type_in = 0;
inline constexpr std::uint32_t type_out = 1;
inline constexpr std::uint32_t type_flush = 4;
inline constexpr std::uint32_t type_get_id = 8;
inline constexpr std::uint32_t type_discard = 11;
inline constexpr std::uint32_t type_write_zeroes = 13;

/// One range of a discard or write zeroes request (5.2.6).
struct Range {
  static constexpr std::uint32_t unmap_flag = 1;  // write zeroes alone: the blocks may be given back

  std::uint64_t sector = 0;
  std::uint32_t num_sectors = 0;
  std::uint32_t flags = 0;
};
static_assert(sizeof(Range) == 16);

/// What a request ends with.
enum class Status : std::uint8_t { ok = 0, io_error = 1, unsupported = 2 };
}  // namespace blk

/// Console device (5.3), one port.
namespace console {
inline constexpr std::uint64_t feature_size = feature_bit(0);

// Queues (5.3.2).
inline constexpr std::uint16_t receive_queue = 0;
inline constexpr std::uint16_t transmit_queue = 1;

/// Configuration layout (5.3.4).
struct Config {
  std::uint16_t cols = 0;
  std::uint16_t rows = 0;
  std::uint32_t max_nr_ports = 0;
  std::uint32_t emerg_wr = 0;
};
static_assert(sizeof(Config) == 12);
}  // namespace console

/// Memory balloon device (5.5).
namespace balloon {
inline constexpr std::uint64_t feature_stats_vq = feature_bit(1);
inline constexpr std::uint64_t feature_deflate_on_oom = feature_bit(2);
inline constexpr std::uint64_t feature_page_poison = feature_bit(4);
inline constexpr std::uint64_t feature_page_reporting = feature_bit(5);

// Queues (5.5.2).
inline constexpr std::uint16_t inflate_queue = 0;
inline constexpr std::uint16_t deflate_queue = 1;
inline constexpr std::uint16_t stats_queue = 2;
inline constexpr std::uint16_t reporting_queue = 4;

inline constexpr std::uint64_t page_size = 4096;  // 5.5.6: whatever the guest's pages are

/// Configuration layout (5.5.4).
struct Config {
  std::uint32_t num_pages = 0;  // that the device wants
  std::uint32_t actual = 0;     // that the driver has given
  std::uint32_t free_page_hint_cmd_id = 0;
  std::uint32_t poison_val = 0;
};
static_assert(sizeof(Config) == 16);

/// An entry of the statistics buffer (5.5.6.3). Packed: its size of 10 is no multiple of 8.
struct [[gnu::packed]] Statistic {
  std::uint16_t tag = 0;
  std::uint64_t value = 0;
};
static_assert(sizeof(Statistic) == 10);

/// Tags of statistics (5.5.6.4).
enum class Tag : std::uint16_t {
  swap_in,
  swap_out,
  major_faults,
  minor_faults,
  free_memory,
  total_memory,
  available_memory,
  disk_caches,
  hugetlb_allocations,
  hugetlb_failures,
};
inline constexpr std::size_t tag_count = 10;
}  // namespace balloon

/// Network device (5.1).
namespace net {
inline constexpr std::uint64_t feature_csum = feature_bit(0);
inline constexpr std::uint64_t feature_guest_csum = feature_bit(1);
inline constexpr std::uint64_t feature_ctrl_guest_offloads = feature_bit(2);
inline constexpr std::uint64_t feature_mtu = feature_bit(3);
inline constexpr std::uint64_t feature_mac = feature_bit(5);
inline constexpr std::uint64_t feature_guest_tso4 = feature_bit(7);
inline constexpr std::uint64_t feature_guest_tso6 = feature_bit(8);
inline constexpr std::uint64_t feature_guest_ecn = feature_bit(9);
inline constexpr std::uint64_t feature_host_tso4 = feature_bit(11);
inline constexpr std::uint64_t feature_host_tso6 = feature_bit(12);
inline constexpr std::uint64_t feature_host_ecn = feature_bit(13);
inline constexpr std::uint64_t feature_mrg_rxbuf = feature_bit(15);
inline constexpr std::uint64_t feature_status = feature_bit(16);
inline constexpr std::uint64_t feature_ctrl_vq = feature_bit(17);
inline constexpr std::uint64_t feature_mq = feature_bit(22);
// Segmentation of UDP, of VirtIO 1.3 (5.1.3).
inline constexpr std::uint64_t feature_guest_uso4 = feature_bit(54);
inline constexpr std::uint64_t feature_guest_uso6 = feature_bit(55);
inline constexpr std::uint64_t feature_host_uso = feature_bit(56);

using MacAddress = std::array<std::uint8_t, 6>;

/// The beginning of the configuration layout (5.1.4), as far as our features give it meaning.
struct [[gnu::packed]] Config {
  MacAddress mac{};
  std::uint16_t status = 0;
  std::uint16_t max_virtqueue_pairs = 0;
  std::uint16_t mtu = 0;
};
static_assert(sizeof(Config) == 12);
inline constexpr std::uint16_t status_link_up = 1;

/// What every frame begins with (5.1.6); with VERSION_1 num_buffers is always there.
struct Header {
  std::uint8_t flags = 0;
  std::uint8_t gso_type = 0;
  std::uint16_t hdr_len = 0;
  std::uint16_t gso_size = 0;
  std::uint16_t csum_start = 0;
  std::uint16_t csum_offset = 0;
  std::uint16_t num_buffers = 0;
};
static_assert(sizeof(Header) == 12);
inline constexpr std::uint8_t header_needs_csum = 1;
inline constexpr std::uint8_t header_data_valid = 2;
inline constexpr std::uint8_t gso_none = 0;
inline constexpr std::uint8_t gso_tcpv4 = 1;
inline constexpr std::uint8_t gso_tcpv6 = 4;
inline constexpr std::uint8_t gso_udp_l4 = 5;  // VirtIO 1.3, 5.1.6
inline constexpr std::uint8_t gso_ecn = 0x80;

/// A frame's size without the header: an Ethernet header, alone at least, and at most 64 KiB behind it (5.1.6.3.1:
/// 65562 bytes with the header; a few more are left to VLAN tags).
inline constexpr std::size_t ethernet_header_size = 14;
inline constexpr std::size_t vlan_tag_size = 4;
inline constexpr std::size_t max_frame_size = 65562;

/// A command of the control queue (5.1.6.5), before its data; the device answers with one byte.
struct ControlHeader {
  std::uint8_t command_class = 0;
  std::uint8_t command = 0;
};
inline constexpr std::uint8_t control_ok = 0;
inline constexpr std::uint8_t control_error = 1;
inline constexpr std::uint8_t class_mq = 4;
inline constexpr std::uint8_t mq_vq_pairs_set = 0;
inline constexpr std::uint8_t class_guest_offloads = 5;
inline constexpr std::uint8_t guest_offloads_set = 0;
}  // namespace net

/// Socket device (5.10).
namespace vsock {
inline constexpr std::uint64_t feature_stream = feature_bit(0);

inline constexpr std::uint16_t rx_queue = 0;
inline constexpr std::uint16_t tx_queue = 1;
inline constexpr std::uint16_t event_queue = 2;

/// Configuration layout (5.10.4).
struct Config {
  std::uint64_t guest_cid = 0;
};

/// What every packet begins with (5.10.6). Packed: its size of 44 is no multiple of 8.
struct [[gnu::packed]] PacketHeader {
  std::uint64_t src_cid = 0;
  std::uint64_t dst_cid = 0;
  std::uint32_t src_port = 0;
  std::uint32_t dst_port = 0;
  std::uint32_t len = 0;  // of the payload that follows
  std::uint16_t type = 0;
  std::uint16_t op = 0;
  std::uint32_t flags = 0;
  std::uint32_t buf_alloc = 0;
  std::uint32_t fwd_cnt = 0;
};
static_assert(sizeof(PacketHeader) == 44);

inline constexpr std::uint16_t type_stream = 1;
inline constexpr std::uint16_t type_seqpacket = 2;

inline constexpr std::uint16_t op_request = 1;
inline constexpr std::uint16_t op_response = 2;
inline constexpr std::uint16_t op_rst = 3;
inline constexpr std::uint16_t op_shutdown = 4;
inline constexpr std::uint16_t op_rw = 5;
inline constexpr std::uint16_t op_credit_update = 6;
inline constexpr std::uint16_t op_credit_request = 7;

/// Flags of op_shutdown: the sender will not receive, or not send, any more (5.10.6).
inline constexpr std::uint32_t shutdown_receive = 1;
inline constexpr std::uint32_t shutdown_send = 2;

/// An element of the event queue (5.10.6).
struct Event {
  std::uint32_t id = 0;
};
inline constexpr std::uint32_t event_transport_reset = 0;
}  // namespace vsock

}  // namespace minivm::virtio

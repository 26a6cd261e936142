#include "boot/linux_params.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <array>
#include <bit>
#include <stdexcept>
#include <vector>

#include "base/fd.h"
#include "boot/layout.h"
#include "boot/memory_map.h"

namespace minivm::boot {
namespace {

// boot.rst, 1.3.
constexpr std::uint8_t unregistered_loader = 0xFF;
constexpr std::uint16_t boot_flag = 0xAA55;
constexpr std::uint32_t header_magic = 0x5372'6448;  // "HdrS"
constexpr std::uint16_t protocol_2_15 = 0x020F;
// What every x86-64 kernel of the last decade says in its own header.
constexpr std::uint32_t initramfs_address_max = 0x7FFF'FFFF;
constexpr std::uint32_t command_line_size = 2047;
constexpr std::size_t seed_size = 32;  // a full reseed of the kernel's generator

static_assert(sizeof(boot_params) == 4096);

// Appends nodes from layout::setup_data on; each links to the one before it.
class SetupDataList {
 public:
  explicit SetupDataList(const GuestMemory& memory) noexcept : memory_(memory) {}

  void add(std::uint32_t type, std::span<const std::byte> data) {
    if (data.size() + sizeof(setup_data) > raw(layout::high_memory) - raw(next_)) {
      throw std::runtime_error(fmt::format("setup_data: {} bytes of type {} do not fit", data.size(), type));
    }
    memory_.write(next_, setup_data{.next = head_, .type = type, .len = static_cast<std::uint32_t>(data.size())});
    memory_.write_bytes(next_ + sizeof(setup_data), data);
    head_ = raw(next_);
    next_ = Gpa{(head_ + sizeof(setup_data) + data.size() + 7) & ~std::uint64_t{7}};
  }
  std::uint64_t head() const noexcept { return head_; }

 private:
  const GuestMemory& memory_;
  std::uint64_t head_ = 0;
  Gpa next_ = layout::setup_data;
};

std::array<std::byte, seed_size> random_seed() {
  std::array<std::byte, seed_size> seed;
  if (::getrandom(seed.data(), seed.size(), 0) != ssize_t{seed_size}) throw_errno("random seed for the guest");
  return seed;
}

void fill_memory_map(boot_params& zero_page, const GuestMemory& memory) {
  for (const MemoryRange& range : memory_map(memory)) {
    zero_page.e820_table[zero_page.e820_entries++] = {range.start, range.size, static_cast<std::uint32_t>(range.type)};
  }
}

}  // namespace

setup_header minimal_setup_header() noexcept {
  setup_header header{};
  header.boot_flag = boot_flag;
  header.header = header_magic;
  header.version = protocol_2_15;
  header.loadflags = LOADED_HIGH;
  header.initrd_addr_max = initramfs_address_max;
  header.cmdline_size = command_line_size;
  return header;
}

void write_linux_params(const GuestMemory& memory, const LinuxParams& params) {
  SetupDataList list(memory);
  list.add(SETUP_RNG_SEED, random_seed());
  if (!params.device_tree.empty()) list.add(SETUP_DTB, params.device_tree);

  boot_params zero_page{};
  zero_page.hdr = params.header;
  zero_page.hdr.type_of_loader = unregistered_loader;
  zero_page.hdr.cmd_line_ptr = static_cast<std::uint32_t>(raw(layout::command_line));
  zero_page.hdr.ramdisk_image = static_cast<std::uint32_t>(raw(params.initramfs.address));
  zero_page.hdr.ramdisk_size = static_cast<std::uint32_t>(params.initramfs.size);
  zero_page.hdr.setup_data = list.head();
  zero_page.acpi_rsdp_addr = raw(params.rsdp);
  fill_memory_map(zero_page, memory);
  memory.write(layout::boot_params, zero_page);
}

}  // namespace minivm::boot

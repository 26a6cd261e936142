#include "devices/pci/empty_bus.h"

#include <algorithm>
#include <cstring>

namespace minivm::pci {
namespace {

// Only a whole access at its own port reaches the address register; others are of the data register or of nobody.
bool is_address_register(std::uint64_t offset, std::size_t size) noexcept {
  return offset == 0 && size == sizeof(std::uint32_t);
}

}  // namespace

void EmptyBus::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
  if (!is_address_register(offset, data.size())) {
    std::ranges::fill(data, std::byte{0xFF});
    return;
  }
  const std::uint32_t address = address_.load(std::memory_order_relaxed);
  std::memcpy(data.data(), &address, sizeof address);
}

void EmptyBus::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
  if (!is_address_register(offset, data.size())) return;
  std::uint32_t address = 0;
  std::memcpy(&address, data.data(), sizeof address);
  address_.store(address, std::memory_order_relaxed);
}

}  // namespace minivm::pci

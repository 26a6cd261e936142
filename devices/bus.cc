#include "devices/bus.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace minivm {

void Bus::map(std::uint64_t base, std::uint64_t size, BusDevice& device) {
  const auto next = std::ranges::upper_bound(mappings_, base, {}, &Mapping::base);
  const bool overlaps_next = next != mappings_.end() && next->base - base < size;
  const bool overlaps_previous = next != mappings_.begin() && base - std::prev(next)->base < std::prev(next)->size;
  if (size == 0 || overlaps_next || overlaps_previous) {
    throw std::logic_error(fmt::format("bus: cannot map {} bytes at {:#x}", size, base));
  }
  mappings_.insert(next, {base, size, &device});
}

bool Bus::read(std::uint64_t address, std::span<std::byte> data) const noexcept {
  const Mapping* mapping = find(address, data.size());
  if (mapping == nullptr) {
    std::ranges::fill(data, std::byte{0xFF});
    return false;
  }
  mapping->device->read(address - mapping->base, data);
  return true;
}

bool Bus::write(std::uint64_t address, std::span<const std::byte> data) const noexcept {
  const Mapping* mapping = find(address, data.size());
  if (mapping == nullptr) return false;
  mapping->device->write(address - mapping->base, data);
  return true;
}

const Bus::Mapping* Bus::find(std::uint64_t address, std::size_t size) const noexcept {
  const auto next = std::ranges::upper_bound(mappings_, address, {}, &Mapping::base);
  if (next == mappings_.begin()) return nullptr;
  const Mapping& mapping = *std::prev(next);
  const std::uint64_t offset = address - mapping.base;
  return offset < mapping.size && size <= mapping.size - offset ? &mapping : nullptr;
}

}  // namespace minivm

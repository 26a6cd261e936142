#include "devices/pci/config_space.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "devices/pci/spec.h"

namespace minivm::pci {

std::uint8_t ConfigSpace::add_capability(std::uint8_t id, std::span<const std::byte> body) {
  constexpr std::size_t alignment = 4;
  const std::size_t offset = end_ == 0 ? header::size : (end_ + alignment - 1) / alignment * alignment;
  if (offset + 2 + body.size() > size) {
    throw std::logic_error(fmt::format("pci: no room for a capability of {} bytes at {:#x}", body.size(), offset));
  }
  const auto where = static_cast<std::uint8_t>(offset);
  set(link_ == 0 ? std::size_t{header::capabilities} : link_, where);
  set(header::status, static_cast<std::uint16_t>(get<std::uint16_t>(header::status) | status_has_capabilities));
  set(offset, id);
  link_ = offset + 1;
  put(offset + 2, body);
  end_ = offset + 2 + body.size();
  return where;
}

void ConfigSpace::read(std::uint64_t offset, std::span<std::byte> data) const noexcept {
  std::ranges::fill(data, std::byte{0});
  if (offset >= size) return;
  const auto from = std::span(bytes_).subspan(offset);
  std::ranges::copy(from.first(std::min(from.size(), data.size())), data.begin());
}

void ConfigSpace::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
  for (const std::byte byte : data) {
    if (offset >= size) return;
    bytes_[offset] = (bytes_[offset] & ~writable_[offset]) | (byte & writable_[offset]);
    ++offset;
  }
}

void ConfigSpace::put(std::size_t offset, std::span<const std::byte> bytes) noexcept {
  std::ranges::copy(bytes, bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
}

void ConfigSpace::allow(std::size_t offset, std::span<const std::byte> mask) noexcept {
  std::ranges::copy(mask, writable_.begin() + static_cast<std::ptrdiff_t>(offset));
}

}  // namespace minivm::pci

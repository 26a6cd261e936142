#include "devices/pci/host.h"

#include <algorithm>

namespace minivm::pci {

void Host::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
  if (Function* function = find(offset)) return function->read_config(offset % function_config_size, data);
  std::ranges::fill(data, std::byte{0xFF});
}

void Host::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
  if (Function* function = find(offset)) function->write_config(offset % function_config_size, data);
}

Function* Host::find(std::uint64_t offset) const noexcept {
  const std::uint64_t number = offset / function_config_size;
  const std::uint64_t device = number / functions_per_device;
  if (number % functions_per_device != 0 || device >= functions_.size()) return nullptr;
  return functions_[device];
}

}  // namespace minivm::pci

#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

/// The structures of <linux/kvm.h> that end in a flexible array (api.rst, 4.18, 4.20, 4.46 and 4.52). Its own cannot be
/// used from C++, where the empty structure that marks the array takes up space, which moves the array and changes the
/// numbers of the ioctls.
namespace minivm::kvm_lists {

struct Head {
  std::uint32_t count = 0;
  std::uint32_t padding = 0;
};

inline constexpr unsigned long get_supported_cpuid = _IOWR(KVMIO, 0x05, Head);
inline constexpr unsigned long set_cpuid2 = _IOW(KVMIO, 0x90, Head);
inline constexpr unsigned long set_msrs = _IOW(KVMIO, 0x89, Head);
inline constexpr unsigned long set_gsi_routing = _IOW(KVMIO, 0x6A, Head);

/// One block: the head, then the entries.
template <typename Entry>
std::vector<std::byte> make(std::span<const Entry> entries) {
  const Head head{.count = static_cast<std::uint32_t>(entries.size())};
  std::vector<std::byte> block(sizeof head + entries.size_bytes());
  std::memcpy(block.data(), &head, sizeof head);
  std::memcpy(block.data() + sizeof head, entries.data(), entries.size_bytes());
  return block;
}

}  // namespace minivm::kvm_lists

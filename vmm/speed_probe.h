#pragma once

#include <cstdint>

#include "vmm/kvm.h"

namespace minivm {

/// What a tiny guest in kernel mode (CPL 0) reached.
struct GuestSpeed {
  /// Below this a stock kernel takes minutes to boot: KVM emulates it instruction by instruction. Hardware runs
  /// thousands of millions, an emulated machine with AMD-V or VT-x some hundred.
  static constexpr std::uint64_t usable = 30'000'000;

  std::uint64_t instructions_per_second = 0;

  bool is_usable() const noexcept { return instructions_per_second >= usable; }
};

/// Lets a guest count further and further, until one round takes a fiftieth of a second. Throws when KVM cannot run it
/// at all.
GuestSpeed probe_guest_speed(const Kvm& kvm);

}  // namespace minivm

#pragma once

#include <linux/kvm.h>

#include "boot/cpu_state.h"

namespace minivm {

/// The segment, control and descriptor-table registers that `state` stands for; the rest of `sregs` stays.
void set_special_registers(kvm_sregs& sregs, const boot::CpuState& state) noexcept;

kvm_regs general_registers(const boot::CpuState& state) noexcept;

}  // namespace minivm

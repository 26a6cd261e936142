#pragma once

#include <string>

#include "minivm/config.h"

namespace minivm {

struct KernelChoice {
  std::string path;
  std::string why;  // for people: "--kernel", "$MINIVM_KERNEL" and so on
};

/// `config.kernel`, else $MINIVM_KERNEL, else minivm's own kernel, else the assets' stock kernel, else the host's
/// kernel in /boot. Throws std::runtime_error that lists what was tried when there is none.
KernelChoice find_kernel(const MachineConfig& config);

/// The module tree for a kernel: `config.modules`, else `modules` beside the kernel file, else /lib/modules/RELEASE.
/// Empty when there is none.
std::string find_modules(const MachineConfig& config, const std::string& kernel_path, const std::string& release);

}  // namespace minivm

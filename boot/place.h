#pragma once

#include "base/guest_memory.h"
#include "boot/initramfs.h"
#include "boot/kernel_image.h"
#include "boot/linux_params.h"

namespace minivm::boot {

/// Puts the kernel's segments where they belong: copied when that is quick, else whole pages as a private mapping of
/// its file. An ELF kernel given by the user is mapped like that too, so, as with a running program, its file must be
/// replaced, not written over, while the guest runs. Throws std::runtime_error when they do not fit.
void place_kernel(GuestMemory& memory, const Kernel::Image& image);

/// Writes the archive as high as the kernel takes it, below the device hole. Throws std::runtime_error when it does not
/// fit above the kernel.
Placed place_initramfs(GuestMemory& memory, const Kernel::Image& image, const Initramfs& initramfs);

}  // namespace minivm::boot

#pragma once

#include <cstddef>
#include <span>

namespace minivm {

/// The finished PID 1, a static ELF64 program, linked into this one: what goes into every initramfs as minivm/init.
std::span<const std::byte> init_image() noexcept;

}  // namespace minivm

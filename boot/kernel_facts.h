#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace minivm::boot {

/// What an unpacked kernel says of itself. Empty where it says nothing.
struct KernelFacts {
  std::string release;  // of its "Linux version" banner
  std::string config;   // the .config text that CONFIG_IKCONFIG embeds
};

/// Searches the whole image: tens of milliseconds, so the result is worth keeping.
KernelFacts find_facts(std::span<const std::byte> image);

}  // namespace minivm::boot

#pragma once

#include <asm/bootparam.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>

namespace minivm::boot {

/// A bzImage's setup header, checked, and where its parts lie in the file (boot.rst).
struct BzImage {
  setup_header header{};
  std::uint64_t code_offset = 0;  // the protected-mode code: all that follows the setup sectors
  std::uint64_t code_size = 0;
  std::uint64_t payload_offset = 0;  // the packed kernel, counted from the start of the file
  std::uint64_t payload_size = 0;
  std::string release;  // "6.1.0-56-cloud-amd64"; empty when the file does not say
};

/// True when `head`, a file's first bytes, has the magic numbers of the Linux boot protocol.
bool is_bzimage(std::span<const std::byte> head) noexcept;

/// Checks a file of `size` bytes that `is_bzimage`. The error is the reason for a refusal.
std::expected<BzImage, std::string> read_bzimage(int fd, std::uint64_t size);

}  // namespace minivm::boot

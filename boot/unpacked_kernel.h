#pragma once

#include <expected>
#include <string>

#include "base/fd.h"
#include "boot/bzimage.h"
#include "boot/elf_image.h"
#include "boot/unpack.h"
#include "boot/unpack_cache.h"

namespace minivm::boot {

/// An open kernel file and what names its state.
struct KernelFile {
  UniqueFd fd;
  struct stat status {};

  std::uint64_t size() const noexcept { return static_cast<std::uint64_t>(status.st_size); }
};

/// The unpacked payload of the bzImage in `file`: from the cache, else unpacked and stored there. A file that is known
/// from an earlier call costs a look at two directory entries. The error says what is wrong with the payload.
std::expected<UnpackCache::Entry, std::string> unpacked_payload(const KernelFile& file, const BzImage& bzimage,
                                                                Compression compression, const UnpackCache& cache);

/// What the ELF kernel in `file` says of itself. The cache keeps that too, in an entry without an image.
KernelFacts elf_facts(const KernelFile& file, const ElfImage& elf, const UnpackCache& cache);

}  // namespace minivm::boot

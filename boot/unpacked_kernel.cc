#include "boot/unpacked_kernel.h"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include "boot/read_at.h"
#include "boot/sha256.h"

namespace minivm::boot {
namespace {

Unpacked read_piece(const KernelFile& file, std::uint64_t offset, std::uint64_t size) {
  Unpacked piece{std::make_unique_for_overwrite<std::byte[]>(size), size};
  if (!read_at(file.fd.get(), offset, piece.bytes())) piece.size = 0;
  return piece;
}

}  // namespace

std::expected<UnpackCache::Entry, std::string> unpacked_payload(const KernelFile& file, const BzImage& bzimage,
                                                                Compression compression, const UnpackCache& cache) {
  const std::string alias = identity(file.status);
  if (auto entry = cache.find(alias)) return std::move(*entry);

  const Unpacked payload = read_piece(file, bzimage.payload_offset, bzimage.payload_size);
  if (payload.size == 0) return std::unexpected("the payload cannot be read");
  // A cryptographic digest: a kernel made by somebody else must not be able to pass for one that the user trusts.
  const std::string name = sha256(payload.bytes()) + ".vmlinux";
  auto entry = cache.find(name);
  if (!entry) {
    const auto unpacked = unpack(compression, payload.bytes());
    if (!unpacked) return std::unexpected(unpacked.error());
    const auto image = cut_to_loaded(unpacked->bytes());
    entry = cache.store(name, image, find_facts(image));
  }
  if (settled(file.status)) cache.add_alias(alias, name);
  return std::move(*entry);
}

KernelFacts elf_facts(const KernelFile& file, const ElfImage& elf, const UnpackCache& cache) {
  const std::string name = identity(file.status) + ".facts";
  if (auto entry = cache.find(name)) return std::move(entry->facts);

  KernelFacts facts;
  for (const Segment& segment : elf.segments) {
    if (segment.file_size > unpacked_limit) continue;
    const Unpacked piece = read_piece(file, segment.file_offset, segment.file_size);
    KernelFacts found = find_facts(piece.bytes());
    if (facts.release.empty()) facts.release = std::move(found.release);
    if (facts.config.empty()) facts.config = std::move(found.config);
  }
  if (settled(file.status)) cache.store(name, {}, facts);
  return facts;
}

}  // namespace minivm::boot

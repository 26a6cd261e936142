#include "boot/kernel.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <expected>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "boot/kernel_format.h"
#include "boot/kernel_image.h"
#include "boot/linux_params.h"
#include "boot/read_at.h"
#include "boot/unpacked_kernel.h"

namespace minivm::boot {
namespace {

// boot.rst, "64-bit boot protocol": the entry point is this far into the protected-mode code.
constexpr std::uint64_t bzimage_entry_64 = 0x200;
constexpr std::size_t head_size = 4096;
constexpr std::uint64_t config_limit = 1U << 24;

using OrReason = std::expected<Kernel::Image, std::string>;

std::string reason_of(int error) { return std::generic_category().message(error); }

std::expected<KernelFile, std::string> open_kernel_file(const std::string& path) {
  // O_NONBLOCK: a FIFO without a writer would block here for ever.
  KernelFile file{UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)), {}};
  if (!file.fd || ::fstat(file.fd.get(), &file.status) != 0) return std::unexpected(reason_of(errno));
  if (S_ISDIR(file.status.st_mode)) return std::unexpected("is a directory");
  if (!S_ISREG(file.status.st_mode)) return std::unexpected("not a regular file");
  if (file.size() == 0) return std::unexpected("the file is empty");
  return file;
}

// The kernel brings its own decompressor: it starts where it is loaded and unpacks to the same place.
OrReason in_guest(KernelFile file, const BzImage& bzimage, std::string_view why) {
  Kernel::Image image;
  image.description = fmt::format("bzImage, unpacked in the guest ({})", why);
  image.release = bzimage.release;
  image.header = bzimage.header;
  image.file = std::move(file.fd);
  const Gpa address{bzimage.header.pref_address};
  image.segments = {{address, bzimage.header.init_size, bzimage.code_offset, bzimage.code_size}};
  image.entry = {Entry::Protocol::linux_64, address + bzimage_entry_64};
  image.end = raw(image.segments.front().end());
  return image;
}

void take_config(Kernel::Image& image, KernelFacts& facts) {
  if (!facts.config.empty()) image.config.emplace(std::move(facts.config));
}

OrReason open_bzimage(KernelFile file, const Kernel::Options& options) {
  const auto bzimage = read_bzimage(file.fd.get(), file.size());
  if (!bzimage) return std::unexpected(bzimage.error());
  if (options.unpack_in_guest) return in_guest(std::move(file), *bzimage, "as asked");
  std::array<std::byte, 2> magic{};
  read_at(file.fd.get(), bzimage->payload_offset, magic);
  const auto compression = recognise_compression(magic);
  if (!compression) return in_guest(std::move(file), *bzimage, "unknown compression");

  const UnpackCache cache(options.cache_directory);
  auto entry = unpacked_payload(file, *bzimage, *compression, cache);
  if (!entry) return std::unexpected(entry.error());
  auto elf = read_elf(entry->file.get(), entry->image_size);
  if (!elf) return in_guest(std::move(file), *bzimage, fmt::format("its payload: {}", elf.error()));

  Kernel::Image image;
  image.description = fmt::format("bzImage, {}, unpacked on the host", name(*compression));
  image.release = bzimage->release.empty() ? entry->facts.release : bzimage->release;
  take_config(image, entry->facts);
  image.header = bzimage->header;
  image.file = std::move(entry->file);
  image.segments = std::move(elf->segments);
  image.entry = elf->entry;
  image.end = std::max<std::uint64_t>(elf->end, bzimage->header.pref_address + bzimage->header.init_size);
  return image;
}

OrReason open_elf(KernelFile file, const Kernel::Options& options) {
  auto elf = read_elf(file.fd.get(), file.size());
  if (!elf) return std::unexpected(elf.error());
  KernelFacts facts = elf_facts(file, *elf, UnpackCache(options.cache_directory));

  Kernel::Image image;
  image.description = elf->entry.protocol == Entry::Protocol::pvh ? "ELF, PVH entry" : "ELF, 64-bit entry";
  image.release = facts.release;
  take_config(image, facts);
  image.header = minimal_setup_header();
  image.file = std::move(file.fd);
  image.segments = std::move(elf->segments);
  image.entry = elf->entry;
  image.end = elf->end;
  return image;
}

OrReason open_image(const std::string& path, const Kernel::Options& options) {
  auto file = open_kernel_file(path);
  if (!file) return std::unexpected(file.error());
  std::array<std::byte, head_size> head_bytes;
  const auto head = std::span(head_bytes).first(std::min<std::uint64_t>(head_size, file->size()));
  if (!read_at(file->fd.get(), 0, head)) return std::unexpected(fmt::format("cannot be read: {}", reason_of(errno)));
  if (is_elf(head)) return open_elf(std::move(*file), options);
  if (is_bzimage(head)) return open_bzimage(std::move(*file), options);
  return std::unexpected(name_foreign_file(head));
}

std::optional<KernelConfig> read_config(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!file || ::fstat(file.get(), &status) != 0) return std::nullopt;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (!S_ISREG(status.st_mode) || size > config_limit) {
    errno = EINVAL;
    return std::nullopt;
  }
  std::string text(size, '\0');
  if (!read_at(file.get(), 0, std::as_writable_bytes(std::span(text)))) return std::nullopt;
  return KernelConfig(std::move(text));
}

// Distributions install config-RELEASE beside vmlinuz-RELEASE; a build directory has its .config copied as "config".
void find_config_beside(Kernel::Image& image) {
  const std::filesystem::path directory = std::filesystem::path(image.path).parent_path();
  if (!image.release.empty()) image.config = read_config(directory / ("config-" + image.release));
  if (!image.config) image.config = read_config(directory / "config");
}

}  // namespace

Kernel Kernel::open(const std::string& path, const Options& options) {
  auto image = open_image(path, options);
  if (!image) throw std::runtime_error(fmt::format("kernel {}: {}", path, image.error()));
  image->path = path;
  if (!options.config_file.empty()) {
    image->config = read_config(options.config_file);
    if (!image->config) {
      throw std::runtime_error(fmt::format("kernel configuration {}: {}", options.config_file, reason_of(errno)));
    }
  } else if (!image->config) {
    find_config_beside(*image);
  }
  log::debug("kernel {}: {}, release {}, configuration {}", path, image->description,
             image->release.empty() ? "unknown" : image->release, image->config ? "known" : "unknown");
  return Kernel(std::make_unique<Image>(std::move(*image)));
}

Kernel::Kernel(std::unique_ptr<Image> image) noexcept : image_(std::move(image)) {}
Kernel::Kernel(Kernel&&) noexcept = default;
Kernel& Kernel::operator=(Kernel&&) noexcept = default;
Kernel::~Kernel() = default;

const std::string& Kernel::path() const noexcept { return image_->path; }
const std::string& Kernel::release() const noexcept { return image_->release; }
const std::optional<KernelConfig>& Kernel::config() const noexcept { return image_->config; }
const std::string& Kernel::description() const noexcept { return image_->description; }

}  // namespace minivm::boot

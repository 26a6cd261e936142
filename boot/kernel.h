#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "boot/kernel_config.h"

namespace minivm::boot {

/// A guest kernel file, validated and ready to be placed: a bzImage whose payload was unpacked on the host, a bzImage
/// to be unpacked in the guest, or an ELF vmlinux. Building thread only.
class Kernel {
 public:
  struct Options {
    std::string cache_directory;   // unpacked payloads, named by content; may be missing, full or read-only
    bool unpack_in_guest = false;  // keep the bzImage's own decompressor, which also does KASLR
    std::string config_file;       // empty: looked for inside the kernel, then as config-RELEASE beside it
  };

  /// Throws std::runtime_error "kernel PATH: reason" when the file cannot be booted.
  static Kernel open(const std::string& path, const Options& options);

  Kernel(Kernel&&) noexcept;
  Kernel& operator=(Kernel&&) noexcept;
  ~Kernel();

  const std::string& path() const noexcept;
  /// "6.1.0-56-cloud-amd64"; empty when the file does not say.
  const std::string& release() const noexcept;
  /// Nothing when the configuration cannot be had.
  const std::optional<KernelConfig>& config() const noexcept;
  /// For people: "bzImage, lz4, unpacked to CACHE/..." and the like.
  const std::string& description() const noexcept;

  struct Image;  // boot/ only: what `load` places
  const Image& image() const noexcept { return *image_; }

 private:
  explicit Kernel(std::unique_ptr<Image> image) noexcept;
  std::unique_ptr<Image> image_;
};

}  // namespace minivm::boot

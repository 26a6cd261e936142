#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"

namespace minivm::boot {

/// A newc archive (buffer-format.rst) that is written straight into guest memory. Parents are not implied: add a
/// directory before what lies in it. Building thread only.
class Initramfs {
 public:
  void add_directory(std::string_view path, std::uint32_t mode = 0755);
  void add_file(std::string_view path, std::uint32_t mode, std::vector<std::byte> content);
  /// `content` must outlive the archive.
  void add_static_file(std::string_view path, std::uint32_t mode, std::span<const std::byte> content);
  /// The whole of a host file. Throws std::system_error naming `host_path`.
  void add_host_file(std::string_view path, std::uint32_t mode, const std::string& host_path);
  void add_device(std::string_view path, std::uint32_t mode, std::uint32_t major, std::uint32_t minor);
  /// A finished archive, compressed or not, unpacked by the kernel after what was added before it: a user's initrd.
  void append_archive(const std::string& host_path);

  /// Bytes that `write` will store, padding included.
  std::uint64_t size() const;
  /// `to` is exactly `size` bytes. Throws std::system_error when a host file can no longer be read in full.
  void write(std::span<std::byte> to) const;

 private:
  // The author of initramfs.cc completes this part.
};

}  // namespace minivm::boot

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace minivm::boot {

/// A newc archive (buffer-format.rst) that is written straight into guest memory; the same content gives the same
/// bytes. Paths are relative to the root, without "." and "..": anything else throws std::runtime_error. Parents are
/// not implied: add a directory before what lies in it. A file holds less than 4 GiB. Building thread only.
class Initramfs {
 public:
  void add_directory(std::string_view path, std::uint32_t mode = 0755);
  void add_file(std::string_view path, std::uint32_t mode, std::vector<std::byte> content);
  /// `content` must outlive the archive.
  void add_static_file(std::string_view path, std::uint32_t mode, std::span<const std::byte> content);
  /// The whole of a host file. Throws std::system_error naming `host_path`.
  void add_host_file(std::string_view path, std::uint32_t mode, const std::string& host_path);
  void add_symlink(std::string_view path, std::string_view target);
  /// A character device, such as /dev/console.
  void add_device(std::string_view path, std::uint32_t mode, std::uint32_t major, std::uint32_t minor);
  /// A finished archive, compressed or not, unpacked by the kernel after all that the other functions add: a user's
  /// initrd. Throws std::system_error naming `host_path`.
  void append_archive(const std::string& host_path);

  /// Bytes that `write` will store, padding included.
  std::uint64_t size() const noexcept;
  /// `to` is exactly `size` bytes. Throws when a host file can no longer be read or is not as long as it was.
  void write(std::span<std::byte> to) const;

 private:
  struct HostFile {
    std::string path;
    std::uint64_t size = 0;
  };
  using Content = std::variant<std::vector<std::byte>, std::span<const std::byte>, HostFile>;
  struct Entry {
    std::string path;
    std::uint32_t mode = 0;  // file type included
    std::uint32_t major = 0;
    std::uint32_t minor = 0;
    Content content;
  };
  class Output;

  static HostFile stat_host_file(const std::string& host_path);
  static std::uint64_t content_size(const Content& content) noexcept;
  void add(Entry entry);

  std::vector<Entry> entries_;
  std::vector<HostFile> archives_;
};

}  // namespace minivm::boot

#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/fd.h"
#include "boot/kernel_facts.h"

namespace minivm::boot {

/// A directory of unpacked kernels. An entry is one file: the image from offset 0 on, so that its pages can be mapped,
/// then what was found in it, then a footer that tells a whole entry from a cut or damaged one. Names are digests of
/// the packed bytes; a second name, made of the kernel file's identity, is a symbolic link that saves an unchanged
/// file from being read and hashed at every start.
///
/// Any number of processes may use a directory at once, and anybody may delete from it at any time: an entry appears
/// whole, and one that is open stays usable. Without a usable directory entries live in memory only, which is reported
/// by log::info and is no error.
class UnpackCache {
 public:
  struct Entry {
    UniqueFd file;
    std::uint64_t image_size = 0;
    KernelFacts facts;
  };

  /// Creates `directory`, with mode 0700, when it is missing. It is used only if it belongs to the effective user and
  /// nobody else may write to it: who can change an entry chooses the kernel. Empty: nothing is kept.
  explicit UnpackCache(std::string directory);

  const std::string& directory() const noexcept { return directory_; }

  /// Nothing when there is no whole entry of that name.
  std::optional<Entry> find(const std::string& name) const;

  /// Makes an entry and keeps it under `name` if that is possible. Throws std::system_error when there is not even
  /// memory for it.
  Entry store(const std::string& name, std::span<const std::byte> image, KernelFacts facts) const;

  /// Lets `find` find the entry `name` as `alias` too.
  void add_alias(const std::string& alias, const std::string& name) const;

 private:
  bool keep(const UniqueFd& file, const std::string& name) const;
  UniqueFd open_partial(const std::string& name) const;
  bool rename_partial(const std::string& name) const;

  std::string directory_;
  UniqueFd fd_;  // empty when the directory cannot be used
};

/// A name that changes whenever a file's content does: device, inode, size and the times of the last changes.
std::string identity(const struct stat& file);

/// False for a file that changed so lately that one more change could leave its time stamps as they are: the clock
/// behind them ticks only every few milliseconds.
bool settled(const struct stat& file) noexcept;

}  // namespace minivm::boot

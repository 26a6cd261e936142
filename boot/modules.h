#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace minivm::boot {

/// A kernel's module tree: a directory with modules.dep and modules.builtin, such as /lib/modules/6.1.0-56-amd64.
class ModuleTree {
 public:
  /// Throws std::runtime_error "modules DIRECTORY: reason" when there is no usable modules.dep.
  explicit ModuleTree(std::string directory);

  /// The files that make `names` usable, each after what it depends on, none twice; built-in names need none.
  /// A name that the tree does not know is added to `missing`.
  std::vector<std::string> resolve(std::span<const std::string_view> names, std::vector<std::string>& missing) const;

  /// The module's bytes as finit_module wants them: .ko.xz, .ko.zst and .ko.gz are unpacked.
  static std::vector<std::byte> read(const std::string& file);

 private:
  // The author of modules.cc completes this part.
  std::string directory_;
};

}  // namespace minivm::boot

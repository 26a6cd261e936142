#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace minivm::boot {

/// A kernel's module tree: a directory with modules.dep, such as /lib/modules/6.1.0-56-amd64 (depmod(8)). Names are
/// those of lsmod or of files: "-" and "_" are the same. Building thread only.
class ModuleTree {
 public:
  /// Throws std::runtime_error "modules DIRECTORY: reason" when there is no usable modules.dep.
  explicit ModuleTree(std::string directory);
  ModuleTree(const ModuleTree&) = delete;
  ModuleTree& operator=(const ModuleTree&) = delete;

  /// The files that make `names` usable, each after what it depends on, none twice; built-in names need none. What a
  /// module asks for by "softdep ... pre:" comes too where the tree has it: a guest without modprobe gets no second
  /// chance. An alias stands for all modules that have it, so that some may not suit the processor (ENODEV).
  /// A name that the tree does not know is added to `missing`.
  std::vector<std::string> resolve(std::span<const std::string_view> names, std::vector<std::string>& missing) const;

  /// The module's bytes as finit_module wants them: .ko.xz, .ko.zst and .ko.gz are unpacked. Throws
  /// std::runtime_error or std::system_error that names the file, also when it has more than `max_module_size` bytes.
  static std::vector<std::byte> read(const std::string& file);

  static constexpr std::size_t max_module_size = 64U << 20;

 private:
  /// A line of modules.dep.
  struct Module {
    std::string_view name;
    std::string_view file;
    std::string_view dependencies;  // all of them, separated by spaces; the last is to be loaded first
  };
  class Resolver;

  std::string directory_;
  std::string text_;  // what `modules_` refers to
  std::vector<Module> modules_;
};

}  // namespace minivm::boot

#include "boot/modules.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "base/fd.h"
#include "boot/read_at.h"
#include "boot/unpack.h"

namespace minivm::boot {
namespace {

/// Takes the next piece of `text` up to `separator` off its front; empty pieces are left out. False at the end.
bool take_piece(std::string_view& text, char separator, std::string_view& piece) {
  while (!text.empty()) {
    const std::size_t end = text.find(separator);
    piece = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    if (!piece.empty()) return true;
  }
  return false;
}

/// "kernel/drivers/block/virtio_blk.ko.xz" is the module virtio_blk.
std::string_view module_name(std::string_view file) {
  const std::size_t slash = file.rfind('/');
  if (slash != file.npos) file.remove_prefix(slash + 1);
  return file.substr(0, file.find('.'));
}

bool same_name(std::string_view left, std::string_view right) {
  constexpr auto plain = [](char letter) { return letter == '-' ? '_' : letter; };
  return left.size() == right.size() && std::ranges::equal(left, right, {}, plain, plain);
}

template <typename Content>
Content read_whole(const std::string& path, std::size_t limit) {
  const UniqueFd fd = open_file(path, O_RDONLY);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) throw_errno(fmt::format("stat {}", path));
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size > limit) throw std::runtime_error(fmt::format("{}: {} bytes, more than {}", path, size, limit));
  Content content(size, {});
  if (!read_at(fd.get(), 0, std::as_writable_bytes(std::span(content)))) {
    throw std::runtime_error(fmt::format("{}: cannot be read in full", path));
  }
  return content;
}

/// An index file of a module tree. Empty when it is not there.
std::string read_index(const std::string& directory, std::string_view name) {
  constexpr std::size_t limit = 64U << 20;
  try {
    return read_whole<std::string>(fmt::format("{}/{}", directory, name), limit);
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::no_such_file_or_directory) throw;
    return {};
  }
}

}  // namespace

/// One call of `resolve`. Reads the smaller index files, each when it is first needed.
class ModuleTree::Resolver {
 public:
  explicit Resolver(const ModuleTree& tree) : tree_(tree) {}

  /// False when the tree knows no such name.
  bool add(std::string_view name) {
    if (const Module* module = find(name)) {
      add_module(*module);
      return true;
    }
    return is_built_in(name) || add_alias(name);
  }

  std::vector<std::string> files() && { return std::move(files_); }

 private:
  const Module* find(std::string_view name) const {
    const auto found =
        std::ranges::find_if(tree_.modules_, [&](const Module& module) { return same_name(module.name, name); });
    return found == tree_.modules_.end() ? nullptr : &*found;
  }

  void add_module(const Module& module) {
    if (std::ranges::find(seen_, module.file) != seen_.end()) return;
    seen_.push_back(module.file);
    add_dependencies(module.dependencies);
    add_soft_dependencies(module.name);
    const bool absolute = module.file.starts_with('/');
    files_.push_back(absolute ? std::string(module.file) : fmt::format("{}/{}", tree_.directory_, module.file));
  }

  void add_dependencies(std::string_view files) {
    std::vector<std::string_view> dependencies;
    for (std::string_view file; take_piece(files, ' ', file);) dependencies.push_back(file);
    // modules.dep lists what is needed first last.
    std::ranges::reverse(dependencies);
    for (const std::string_view file : dependencies) {
      const auto known = std::ranges::find(tree_.modules_, file, &Module::file);
      add_module(known != tree_.modules_.end() ? *known : Module{module_name(file), file, {}});
    }
  }

  // "softdep NAME pre: a b post: c"; only what comes before the module matters for loading it.
  void add_soft_dependencies(std::string_view name) {
    std::string_view rest = index(soft_dependencies_, "modules.softdep");
    for (std::string_view line; take_piece(rest, '\n', line);) {
      std::string_view word;
      if (!take_piece(line, ' ', word) || word != "softdep") continue;
      if (!take_piece(line, ' ', word) || !same_name(word, name)) continue;
      for (bool before = false; take_piece(line, ' ', word);) {
        if (word.ends_with(':')) {
          before = word == "pre:";
        } else if (before) {
          add(word);
        }
      }
    }
  }

  bool is_built_in(std::string_view name) {
    std::string_view rest = index(built_in_, "modules.builtin");
    for (std::string_view file; take_piece(rest, '\n', file);) {
      if (same_name(module_name(file), name)) return true;
    }
    return false;
  }

  // "alias NAME MODULE". Patterns are for devices, which are not looked up here.
  bool add_alias(std::string_view name) {
    const std::string start = fmt::format("alias {} ", name);
    std::string_view rest = index(aliases_, "modules.alias");
    bool known = false;
    for (std::string_view line; take_piece(rest, '\n', line);) {
      if (!line.starts_with(start)) continue;
      const Module* module = find(line.substr(start.size()));
      if (module == nullptr) continue;
      add_module(*module);
      known = true;
    }
    return known;
  }

  std::string_view index(std::optional<std::string>& text, std::string_view file) const {
    if (!text) text = read_index(tree_.directory_, file);
    return *text;
  }

  const ModuleTree& tree_;
  std::optional<std::string> soft_dependencies_;
  std::optional<std::string> built_in_;
  std::optional<std::string> aliases_;
  std::vector<std::string_view> seen_;
  std::vector<std::string> files_;
};

ModuleTree::ModuleTree(std::string directory) : directory_(std::move(directory)) {
  while (directory_.size() > 1 && directory_.ends_with('/')) directory_.pop_back();
  text_ = read_index(directory_, "modules.dep");
  std::string_view rest = text_;
  for (std::string_view line; take_piece(rest, '\n', line);) {
    const std::size_t colon = line.find(':');
    if (colon == line.npos) continue;
    const std::string_view file = line.substr(0, colon);
    modules_.push_back({module_name(file), file, line.substr(colon + 1)});
  }
  if (modules_.empty()) {
    const std::string_view release = std::string_view(directory_).substr(directory_.rfind('/') + 1);
    throw std::runtime_error(fmt::format("modules {}: {} modules.dep: run depmod {}", directory_,
                                         text_.empty() ? "no" : "no module in", release));
  }
}

std::vector<std::string> ModuleTree::resolve(std::span<const std::string_view> names,
                                             std::vector<std::string>& missing) const {
  Resolver resolver(*this);
  for (const std::string_view name : names) {
    if (!resolver.add(name)) missing.emplace_back(name);
  }
  return std::move(resolver).files();
}

std::vector<std::byte> ModuleTree::read(const std::string& file) {
  std::vector<std::byte> packed = read_whole<std::vector<std::byte>>(file, max_module_size);
  const auto compression = recognise_compression(packed);
  if (!compression) return packed;
  // Not filled, so only what is written to takes memory.
  const auto unpacked = std::make_unique_for_overwrite<std::byte[]>(max_module_size);
  const auto size = unpack_into(*compression, packed, std::span(unpacked.get(), max_module_size));
  if (!size) {
    throw std::runtime_error(fmt::format("module {}: corrupt {} data, or more than {} bytes unpacked", file,
                                         name(*compression), max_module_size));
  }
  return {unpacked.get(), unpacked.get() + *size};
}

}  // namespace minivm::boot

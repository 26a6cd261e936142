#pragma once

#include <climits>
#include <cstddef>
#include <cstring>
#include <string_view>

namespace minivm::copy {

/// A path that grows and shrinks by components as a tree is walked, in place and bounded.
class WalkedPath {
 public:
  /// False when it would be longer than any path that the kernel takes; it is unchanged then.
  bool push(std::string_view name) noexcept {
    const std::size_t slash = size_ > 0 && data_[size_ - 1] != '/' ? 1 : 0;
    if (size_ + slash + name.size() >= sizeof(data_)) return false;
    if (slash != 0) data_[size_++] = '/';
    if (!name.empty()) std::memcpy(data_ + size_, name.data(), name.size());
    size_ += name.size();
    return true;
  }
  /// Back to what `size` was before.
  void cut(std::size_t size) noexcept { size_ = size; }

  std::size_t size() const noexcept { return size_; }
  std::string_view view() const noexcept { return {data_, size_}; }

 private:
  char data_[PATH_MAX];
  std::size_t size_ = 0;
};

}  // namespace minivm::copy

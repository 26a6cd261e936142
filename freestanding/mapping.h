#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <span>
#include <utility>

namespace minivm {

/// Zeroed pages of its own, given back when it goes; touched pages only cost memory. Empty when there is none to have.
class Mapping {
 public:
  Mapping() noexcept = default;
  explicit Mapping(std::size_t size) noexcept {
    void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED) bytes_ = {static_cast<std::byte*>(memory), size};
  }
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&& other) noexcept {
    if (this == &other) return *this;
    if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
    bytes_ = std::exchange(other.bytes_, {});
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
  }

  std::span<std::byte> bytes() const noexcept { return bytes_; }
  explicit operator bool() const noexcept { return !bytes_.empty(); }

 private:
  std::span<std::byte> bytes_;
};

}  // namespace minivm

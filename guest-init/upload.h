#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "freestanding/fd.h"

namespace minivm::guest {

/// Receives a program into memory of its own, from where it can be executed without a file system.
class Upload {
 public:
  enum class Progress : std::uint8_t { waiting, yielded, complete, failed };

  /// Returns 0 or errno.
  int open(std::uint64_t size) noexcept;
  /// Takes what `socket` has, through `buffer`. After `failed`, `error` tells why.
  Progress receive(int socket, std::span<std::byte> buffer) noexcept;

  int error() const noexcept { return error_; }
  /// Moves the finished program out; close-on-exec, so an ELF file is executed but an interpreter cannot open it.
  Fd take() noexcept { return std::move(memory_); }

 private:
  Progress fail(int error) noexcept;
  bool store(std::span<const std::byte> bytes) noexcept;

  Fd memory_;
  std::uint64_t left_ = 0;
  int error_ = 0;
};

}  // namespace minivm::guest

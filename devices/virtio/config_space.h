#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <type_traits>

namespace minivm::virtio {

/// What `read_config` does for a device whose whole configuration space is `config`.
inline void copy_config(std::span<const std::byte> config, std::uint64_t offset, std::span<std::byte> data) noexcept {
  std::ranges::fill(data, std::byte{0});
  if (offset >= config.size()) return;
  const auto from = config.subspan(offset);
  std::ranges::copy(from.first(std::min(from.size(), data.size())), data.begin());
}

/// A configuration space that changes while the driver reads it, with the generation that tells the driver so
/// (VirtIO 1.2, 2.5.3.1): contents and generation change as one, so a driver that read two contents also reads two
/// generations. Any thread.
template <typename Config>
requires std::is_trivially_copyable_v<Config>
class ConfigSpace {
 public:
  explicit ConfigSpace(const Config& config) noexcept : config_(config) {}

  void read(std::uint64_t offset, std::span<std::byte> data) const noexcept {
    const std::lock_guard lock(mutex_);
    copy_config(std::as_bytes(std::span(&config_, 1)), offset, data);
  }
  std::uint32_t generation() const noexcept {
    const std::lock_guard lock(mutex_);
    return generation_;
  }
  /// Calls `change(Config&)`. The driver still has to be told, by Interrupt::signal_configuration.
  template <typename Change>
  void update(Change change) noexcept {
    const std::lock_guard lock(mutex_);
    change(config_);
    ++generation_;
  }

 private:
  mutable std::mutex mutex_;
  Config config_;
  std::uint32_t generation_ = 0;
};

}  // namespace minivm::virtio

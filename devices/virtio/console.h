#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "devices/input_port.h"
#include "devices/virtio/config_space.h"
#include "devices/virtio/device.h"
#include "devices/virtio/spec.h"

namespace minivm::virtio {

/// virtio-console with one port (VirtIO 1.2, 5.3), Linux' hvc0: whole buffers of output at a time, where a UART costs
/// two exits for each character. What the guest sends waits in its ring while the sink is full. Event-loop thread, but
/// for configuration space.
class Console final : public VirtioDevice, public InputPort {
 public:
  /// Where the output goes.
  struct Sink {
    std::function<std::size_t()> room;                      // bytes that `write` would take; 0: `resume_output` follows
    std::function<void(std::span<const std::byte>)> write;  // no more than that
  };

  /// Input that waits for the guest to have buffers for it.
  static constexpr std::size_t max_input = 4096;

  explicit Console(Sink sink) noexcept : sink_(std::move(sink)), config_(console::Config{}) {}

  std::uint32_t type() const noexcept override { return device_id::console; }
  std::uint64_t features() const noexcept override {
    return feature::version_1 | feature::indirect_desc | feature::event_idx | console::feature_size;
  }
  std::span<const std::uint16_t> queue_sizes() const noexcept override { return queue_sizes_; }
  void read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept override {
    config_.read(offset, data);
  }
  std::uint32_t config_generation() const noexcept override { return config_.generation(); }

  void activate(Activation activation) noexcept override { active_ = std::move(activation); }
  void on_notify(std::uint16_t queue) noexcept override;
  void reset() noexcept override;

  std::size_t room() const override { return max_input - input_.size(); }
  std::size_t push_input(std::span<const std::byte> bytes) override;
  void on_room(std::function<void()> on_room) override { on_room_ = std::move(on_room); }

  /// The sink takes bytes again.
  void resume_output() noexcept;
  /// The size of the user's terminal.
  void resize(std::uint16_t columns, std::uint16_t rows) noexcept;
  /// Makes the driver look at the size: Linux' does so only for this interrupt, also in the beginning, and not before
  /// it has made a terminal of the port.
  void announce_size() noexcept;

 private:
  Virtqueue* queue(std::uint16_t index) noexcept;
  void transmit(Virtqueue& queue) noexcept;
  bool write_out(std::span<iovec>& parts) const noexcept;
  void receive(Virtqueue& queue) noexcept;
  void finish(std::uint16_t index) noexcept;

  static constexpr std::array<std::uint16_t, 2> queue_sizes_{64, 64};

  Sink sink_;
  std::function<void()> on_room_;
  ConfigSpace<console::Config> config_;
  std::optional<Activation> active_;
  std::vector<std::byte> input_;
  DescriptorChain received_;
  DescriptorChain sent_;
  std::span<iovec> unsent_;  // of `sent_`, which goes back when it is all out
  bool sending_ = false;
};

}  // namespace minivm::virtio

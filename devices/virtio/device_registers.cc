#include "devices/virtio/device_registers.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <utility>

#include "devices/virtio/spec.h"

namespace minivm::virtio {
namespace {

// The driver's way through the device status (VirtIO 1.2, 3.1.1), one bit at a time.
struct Step {
  std::uint32_t from;
  std::uint32_t bit;
};
constexpr std::uint32_t negotiating = status::acknowledge | status::driver;
constexpr std::uint32_t configuring = negotiating | status::features_ok;
constexpr std::array steps{
    Step{0, status::acknowledge},
    Step{status::acknowledge, status::driver},
    Step{negotiating, status::features_ok},
    Step{configuring, status::driver_ok},
};

bool is_step(std::uint32_t from, std::uint32_t bit) noexcept {
  // The driver may give up at any time.
  if (bit == status::failed) return true;
  return std::ranges::any_of(steps, [&](const Step& step) { return step.from == from && step.bit == bit; });
}

// The 32 bits of `value` that a selector register chooses.
std::uint32_t selected(std::uint64_t value, std::uint32_t selector) noexcept {
  return selector < 2 ? static_cast<std::uint32_t>(value >> (32 * selector)) : 0;
}

std::uint64_t with_half(std::uint64_t value, bool high, std::uint32_t half) noexcept {
  const unsigned shift = high ? 32 : 0;
  return (value & ~(std::uint64_t{0xFFFF'FFFF} << shift)) | std::uint64_t{half} << shift;
}

std::uint32_t half(Gpa gpa, bool high) noexcept { return selected(raw(gpa), high ? 1 : 0); }

std::uint32_t read_queue(const QueueConfig& queue, Register which) noexcept {
  switch (which) {
    case Register::queue_size:
      return queue.size;
    case Register::queue_ready:
      return queue.ready ? 1 : 0;
    case Register::queue_desc_low:
    case Register::queue_desc_high:
      return half(queue.descriptor_table, which == Register::queue_desc_high);
    case Register::queue_driver_low:
    case Register::queue_driver_high:
      return half(queue.available_ring, which == Register::queue_driver_high);
    case Register::queue_device_low:
    case Register::queue_device_high:
      return half(queue.used_ring, which == Register::queue_device_high);
    default:
      return 0;
  }
}

}  // namespace

DeviceRegisters::DeviceRegisters(VirtioDevice& device, EventLoop& loop, const GuestMemory& memory, Interrupt& interrupt)
    : device_(device),
      loop_(loop),
      memory_(memory),
      interrupt_(interrupt),
      notifications_(device.queue_sizes().size()),
      queues_(notifications_.size()),
      enabled_(notifications_.size()) {
  reset_registers();
  for (std::uint16_t queue = 0; queue < queue_count(); ++queue) {
    loop_.watch(notify_fd(queue), EPOLLIN, [this, queue](std::uint32_t) { on_kick(queue); });
  }
}

DeviceRegisters::~DeviceRegisters() {
  for (const EventFd& notification : notifications_) loop_.unwatch(notification.fd());
}

std::uint32_t DeviceRegisters::read(Register which) const noexcept {
  const bool queue_exists = queue_sel_ < queues_.size();
  switch (which) {
    case Register::device_features_sel:
      return device_features_sel_;
    case Register::device_features:
      return selected(device_.features(), device_features_sel_);
    case Register::driver_features_sel:
      return driver_features_sel_;
    case Register::driver_features:
      return selected(driver_features_, driver_features_sel_);
    case Register::status:
      return status_;
    case Register::config_generation:
      return device_.config_generation();
    case Register::queue_count:
      return queue_count();
    case Register::queue_sel:
      return queue_sel_;
    case Register::queue_max_size:
      return queue_exists ? device_.queue_sizes()[queue_sel_] : 0;
    default:
      return queue_exists ? read_queue(queues_[queue_sel_], which) : 0;
  }
}

void DeviceRegisters::write(Register which, std::uint32_t value) noexcept {
  switch (which) {
    case Register::device_features_sel:
      device_features_sel_ = value;
      return;
    case Register::driver_features_sel:
      driver_features_sel_ = value;
      return;
    case Register::driver_features:
      return write_driver_features(value);
    case Register::queue_sel:
      queue_sel_ = value;
      return;
    case Register::status:
      return write_status(value);
    case Register::device_features:
    case Register::config_generation:
    case Register::queue_count:
    case Register::queue_max_size:
      return;  // read-only
    default:
      return write_queue(which, value);
  }
}

void DeviceRegisters::notify(std::uint32_t queue) noexcept {
  // The kick handler knows whether the queue is live.
  if (queue < notifications_.size()) notifications_[queue].signal();
}

void DeviceRegisters::read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept {
  device_.read_config(offset, data);
}

void DeviceRegisters::write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept {
  if ((status_ & status::driver) != 0) device_.write_config(offset, data);
}

void DeviceRegisters::write_driver_features(std::uint32_t value) noexcept {
  if (status_ != negotiating || driver_features_sel_ > 1) {
    if (value != 0)
      faults_.warning("virtio device {}: features written in status {:#x}", device_.type(), status_.load());
    return;
  }
  driver_features_ = with_half(driver_features_, driver_features_sel_ == 1, value);
}

void DeviceRegisters::write_queue(Register which, std::uint32_t value) noexcept {
  if (status_ != configuring || queue_sel_ >= queues_.size()) {
    faults_.warning("virtio device {}: queue {} written in status {:#x}", device_.type(), queue_sel_, status_.load());
    return;
  }
  QueueConfig& queue = queues_[queue_sel_];
  if (which == Register::queue_ready) queue.ready = value == 1;
  if (queue.ready) return;
  const auto set_half = [value](Gpa& gpa, bool high) { gpa = Gpa{with_half(raw(gpa), high, value)}; };
  switch (which) {
    case Register::queue_size:
      // What does not fit is as wrong as zero; Virtqueue::create judges it.
      queue.size = value <= max_queue_size ? static_cast<std::uint16_t>(value) : std::uint16_t{0};
      return;
    case Register::queue_desc_low:
    case Register::queue_desc_high:
      return set_half(queue.descriptor_table, which == Register::queue_desc_high);
    case Register::queue_driver_low:
    case Register::queue_driver_high:
      return set_half(queue.available_ring, which == Register::queue_driver_high);
    case Register::queue_device_low:
    case Register::queue_device_high:
      return set_half(queue.used_ring, which == Register::queue_device_high);
    default:
      return;
  }
}

void DeviceRegisters::write_status(std::uint32_t value) noexcept {
  if (value == 0) return reset();
  // The driver has no say in DEVICE_NEEDS_RESET; it writes back what it read.
  const std::uint32_t current = status_ & ~status::needs_reset;
  value &= ~status::needs_reset;
  if (value == current) return;
  const std::uint32_t added = value & ~current;
  if ((current & ~value) != 0 || !is_step(current, added)) {
    faults_.warning("virtio device {}: status {:#x} cannot follow {:#x}", device_.type(), value, current);
    return;
  }
  // VirtIO 1.2, 3.1.1 step 6: the driver reads the status again to see whether its features are accepted.
  if (added == status::features_ok) {
    if (!features_acceptable()) return;
    device_.features_accepted(driver_features_);
  }
  status_.fetch_or(added);
  if (added == status::driver_ok) activate();
}

bool DeviceRegisters::features_acceptable() const noexcept {
  return (driver_features_ & ~device_.features()) == 0 && (driver_features_ & feature::version_1) != 0;
}

// Builds the live queues from the registers, which are frozen now, and hands them to the device.
void DeviceRegisters::activate() noexcept {
  Activation activation{.features = driver_features_,
                        .queues = {},
                        .interrupt = &interrupt_,
                        .needs_reset = [this] { needs_reset(); },
                        .call_again = [this](std::uint16_t queue) { notifications_[queue].signal(); }};
  for (std::size_t index = 0; index < queues_.size(); ++index) {
    auto& live = activation.queues.emplace_back();
    if (!queues_[index].ready) continue;
    auto queue = Virtqueue::create(queues_[index], device_.queue_sizes()[index], driver_features_, memory_);
    if (!queue) {
      faults_.warning("virtio device {}: queue {}: {}", device_.type(), index, describe(queue.error()));
      return needs_reset();
    }
    live = std::move(*queue);
  }
  loop_.run_sync([&] { start(std::move(activation)); });
}

void DeviceRegisters::reset() noexcept {
  // A loop that has ended does not run the device any more either.
  if ((status_ & status::driver_ok) != 0) loop_.run_sync([this] { stop(); });
  reset_registers();
  device_.features_accepted(0);
  status_ = 0;
}

void DeviceRegisters::reset_registers() noexcept {
  device_features_sel_ = 0;
  driver_features_sel_ = 0;
  queue_sel_ = 0;
  driver_features_ = 0;
  // VirtIO 1.2, 4.1.4.3: a queue has its largest size unless the driver chooses another.
  for (std::size_t index = 0; index < queues_.size(); ++index) queues_[index] = {.size = device_.queue_sizes()[index]};
}

void DeviceRegisters::start(Activation activation) noexcept {
  for (std::uint16_t queue = 0; queue < queue_count(); ++queue) enabled_[queue] = activation.queues[queue].has_value();
  device_.activate(std::move(activation));
  // A kick between DRIVER_OK and now found the device inactive and was dropped.
  for (std::uint16_t queue = 0; queue < queue_count(); ++queue) {
    if (enabled_[queue]) device_.on_notify(queue);
  }
}

void DeviceRegisters::stop() noexcept {
  device_.reset();
  enabled_.assign(enabled_.size(), false);
}

void DeviceRegisters::on_kick(std::uint16_t queue) noexcept {
  notifications_[queue].drain();
  if (enabled_[queue]) device_.on_notify(queue);
}

// Any thread. VirtIO 1.2, 2.1.2: the driver is told by a configuration change notification.
void DeviceRegisters::needs_reset() noexcept {
  status_.fetch_or(status::needs_reset);
  interrupt_.signal_configuration();
}

}  // namespace minivm::virtio

// A hostile driver of a network device: any bytes as rings, descriptors, headers and commands, in any order of kicks,
// frames and resets. What leaves on the cable must be a frame that the device may send.
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "devices/virtio/net.h"
#include "devices/virtio/net_header.h"
#include "devices/virtio/tap.h"

namespace {

using namespace minivm;
using namespace minivm::virtio;

constexpr std::uint16_t ring_size = 16;
constexpr std::uint64_t memory_size = 256 << 10;
// A page for each queue's rings, then the pages whose bytes the input chooses.
constexpr std::uint64_t queue_stride = 0x1000;
constexpr std::uint64_t available_offset = 0x400;
constexpr std::uint64_t used_offset = 0x800;
constexpr std::uint64_t data_start = 0x8000;

/// Takes the input apart; zeros once it is used up.
class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  bool empty() const { return bytes_.empty(); }
  template <typename T>
  T take() {
    T value{};
    const std::size_t size = std::min(sizeof value, bytes_.size());
    if (size != 0) std::memcpy(&value, bytes_.data(), size);
    bytes_ = bytes_.subspan(size);
    return value;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

class Scene {
 public:
  Scene() {
    TapQueues queues{.name = "cable", .offloads = offload_bits};
    for (int i = 0; i < 2; ++i) {
      std::array<int, 2> ends{};
      if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()) != 0) __builtin_trap();
      queues.files.emplace_back(ends[0]);
      cables_.emplace_back(ends[1]);
    }
    device_ = std::make_unique<Net>(std::make_unique<Tap>(std::move(queues), loop_), net::MacAddress{2});
  }

  void act(Input& input) {
    switch (input.take<std::uint8_t>() % 8) {
      case 0:
        return start(input);
      case 1:
        return device_->reset();
      case 2:
        return receive(input);
      case 3:
        return write_descriptor(input);
      case 4:
        return write_data(input);
      case 5:
        return offer(input);
      default:
        kick(static_cast<std::uint16_t>(input.take<std::uint8_t>() % 5));
    }
  }

 private:
  static constexpr std::uint64_t offload_bits = net::feature_csum | net::feature_host_tso4 | net::feature_host_tso6 |
                                                net::feature_guest_csum | net::feature_guest_tso4 |
                                                net::feature_guest_tso6 | net::feature_host_uso;

  void start(Input& input) {
    device_->reset();
    features_ = (input.take<std::uint64_t>() & device_->features()) | feature::version_1;
    Activation activation{.features = features_,
                          .interrupt = &interrupt_,
                          .needs_reset = [] {},
                          .call_again = [this](std::uint16_t queue) { again_.push_back(queue); }};
    for (std::uint64_t queue = 0; queue < 5; ++queue) {
      const Gpa base{queue * queue_stride};
      memory_.write(base + available_offset, std::uint32_t{0});
      next_[queue] = 0;
      auto live = Virtqueue::create({.size = ring_size,
                                     .ready = true,
                                     .descriptor_table = base,
                                     .available_ring = base + available_offset,
                                     .used_ring = base + used_offset},
                                    ring_size, features_, memory_);
      activation.queues.emplace_back(std::move(*live));
    }
    device_->activate(std::move(activation));
  }
  void write_descriptor(Input& input) {
    const auto place = input.take<std::uint8_t>();
    Descriptor descriptor = input.take<Descriptor>();
    // Mostly addresses that mean something.
    if ((place & 0x80) == 0) descriptor.address = data_start + descriptor.address % (memory_size - data_start);
    if ((place & 0x40) == 0) descriptor.length %= 0x2000;
    memory_.write(Gpa{(place % 5) * queue_stride + (place / 5 % ring_size) * sizeof descriptor}, descriptor);
  }
  void write_data(Input& input) {
    const auto place = input.take<std::uint16_t>();
    memory_.write(Gpa{data_start + place}, input.take<std::array<std::uint8_t, 16>>());
  }
  void offer(Input& input) {
    const std::uint64_t queue = input.take<std::uint8_t>() % 5;
    const auto count = static_cast<std::uint16_t>(input.take<std::uint8_t>() % (ring_size + 2));
    const Gpa ring = Gpa{queue * queue_stride} + available_offset;
    for (std::uint16_t i = 0; i < count; ++i) {
      memory_.write(ring + available_entries_offset + 2 * (next_[queue]++ % ring_size),
                    std::uint16_t{input.take<std::uint8_t>()});
    }
    memory_.write(ring + available_idx_offset, next_[queue]);
    kick(static_cast<std::uint16_t>(queue));
  }
  void receive(Input& input) {
    std::vector<std::byte> frame(input.take<std::uint16_t>() % 9000 + 1);
    ::send(cables_[input.take<std::uint8_t>() % 2].get(), frame.data(), frame.size(), 0);
    kick(0);
  }
  void kick(std::uint16_t queue) {
    device_->on_notify(queue);
    // A driver cannot make a queue call for more for ever: the rings do not change meanwhile.
    for (int round = 0; !again_.empty(); ++round) {
      if (round > 1000) __builtin_trap();
      for (const std::uint16_t each : std::exchange(again_, {})) device_->on_notify(each);
      check_departed();
    }
    check_departed();
  }
  void check_departed() {
    for (const UniqueFd& cable : cables_) {
      for (;;) {
        const ssize_t size = ::recv(cable.get(), frame_.data(), frame_.size(), 0);
        if (size < 0) break;
        net::Header header;
        if (static_cast<std::size_t>(size) < sizeof header) __builtin_trap();
        std::memcpy(&header, frame_.data(), sizeof header);
        if (!judge_header(header, static_cast<std::size_t>(size) - sizeof header, features_)) __builtin_trap();
      }
    }
  }

  GuestMemory memory_{memory_size};
  EventLoop loop_;
  InterruptLine interrupt_;
  std::vector<UniqueFd> cables_;
  std::unique_ptr<Net> device_;
  std::uint64_t features_ = 0;
  std::array<std::uint16_t, 5> next_{};
  std::vector<std::uint16_t> again_;
  std::vector<std::byte> frame_ = std::vector<std::byte>(net::max_frame_size + 100);
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(std::span(data, size));
  Scene scene;
  while (!input.empty()) scene.act(input);
  return 0;
}

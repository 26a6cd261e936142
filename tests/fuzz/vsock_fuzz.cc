// virtio-vsock with host ends that take and give what they like, and hang up when they like.
#include <algorithm>

#include "devices/virtio/vsock.h"
#include "tests/fuzz/hostile_driver.h"

using namespace minivm;
using namespace minivm::virtio;

namespace {

class MoodyEndpoint final : public VsockEndpoint {
 public:
  explicit MoodyEndpoint(std::uint8_t mood) : mood_(mood) {}

  void attached(VsockStream& stream) noexcept override { stream_ = &stream; }
  std::size_t receive(std::span<const iovec> data) noexcept override {
    std::size_t size = 0;
    for (const iovec& part : data) size += part.iov_len;
    if ((mood_ & 1) != 0) size = std::min<std::size_t>(size, mood_);
    if ((mood_ & 2) != 0) stream_->end_receive();
    if ((mood_ & 4) != 0) std::exchange(stream_, nullptr)->close();
    return size;
  }
  void receive_ended() noexcept override {}
  Filled fill(std::span<const iovec> space) noexcept override {
    const std::size_t size = space.empty() ? 0 : std::min<std::size_t>(space[0].iov_len, mood_);
    if (size != 0) std::memset(space[0].iov_base, mood_, size);
    return {size, (mood_ & 8) != 0};
  }
  void fill_ended() noexcept override {}
  void closed(bool) noexcept override { stream_ = nullptr; }

  void change(std::uint8_t mood) {
    mood_ = mood;
    if (stream_ == nullptr) return;
    if ((mood & 16) != 0) stream_->resume_receive();
    if ((mood & 32) != 0) stream_->resume_fill();
    if ((mood & 0xC0) == 0xC0) std::exchange(stream_, nullptr)->close();
  }

 private:
  std::uint8_t mood_;
  VsockStream* stream_ = nullptr;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint32_t port = 5000;
  test::Choices choices(data, size);
  EventLoop loop;
  std::vector<std::shared_ptr<MoodyEndpoint>> endpoints;
  const auto make = [&] {
    return endpoints.emplace_back(std::make_shared<MoodyEndpoint>(choices.next<std::uint8_t>()));
  };
  Vsock device(3, loop);
  device.listen(
      port, [&](std::uint32_t) -> std::shared_ptr<VsockEndpoint> { return choices.below(8) == 0 ? nullptr : make(); });
  const auto special = [&](test::HostileDriver& driver, std::size_t queue) {
    if (!endpoints.empty() && choices.below(4) == 0)
      endpoints[choices.below(endpoints.size())]->change(choices.next<std::uint8_t>());
    if (endpoints.size() < 64 && choices.below(16) == 15)
      device.connect(static_cast<std::uint32_t>(choices.below(4)), make());
    vsock::PacketHeader header{.src_cid = 3,
                               .dst_cid = Vsock::host_cid,
                               .src_port = static_cast<std::uint32_t>(choices.below(4)),
                               .dst_port = port,
                               .len = choices.flip() ? static_cast<std::uint32_t>(choices.below(5000)) : 0,
                               .type = vsock::type_stream,
                               .op = static_cast<std::uint16_t>(choices.below(9)),
                               .flags = static_cast<std::uint32_t>(choices.below(4)),
                               .buf_alloc = choices.next<std::uint32_t>(),
                               .fwd_cnt = static_cast<std::uint32_t>(choices.below(4096))};
    if (choices.below(8) == 0) header.dst_port = choices.next<std::uint32_t>();
    if (choices.below(16) == 0) header.src_cid = choices.next<std::uint64_t>();
    if (choices.below(16) == 0) header.type = choices.next<std::uint16_t>();
    driver.offer(queue, std::as_bytes(std::span(&header, 1)));
  };
  test::HostileLife(device, loop, test::fuzz_memory(), choices, special).run();
  return 0;
}

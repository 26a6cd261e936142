// virtio-blk over a file in memory, with and without a ring, limits and a file that becomes shorter: no request gets at
// anything but its own buffers and the image, and the image never grows.
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/virtio/blk.h"
#include "tests/fuzz/hostile_driver.h"

using namespace minivm;
using namespace minivm::virtio;

namespace {

constexpr std::uint64_t image_size = 64 << 10;

DiskImage image(int file, test::Choices& choices) {
  DiskImage image{.path = "fuzz", .file = UniqueFd(::dup(file)), .size = image_size};
  image.read_only = choices.below(8) == 0;
  if (choices.below(16) == 1) {  // everything goes through a ring
    image.direct.reset(::dup(file));
    image.direct_alignment = 512;
    image.direct_memory_alignment = 1;
  }
  return image;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int file = ::memfd_create("fuzz", MFD_CLOEXEC);
  if (::ftruncate(file, image_size) != 0) return 0;
  test::Choices choices(data, size);
  EventLoop loop;
  const std::uint64_t rate = choices.below(16) == 0 ? 100'000 : 0;
  Blk device(image(file, choices), "fuzz", loop,
             {.queues = static_cast<std::uint16_t>(1 + choices.below(2)), .limit = {.operations = rate, .bytes = 0}});
  const auto special = [&](test::HostileDriver& driver, std::size_t queue) {
    constexpr std::array types{
        blk::type_in, blk::type_out, blk::type_flush, blk::type_get_id, blk::type_discard, blk::type_write_zeroes, 99U};
    struct {
      blk::RequestHeader header;
      std::array<blk::Range, 2> ranges;
    } request;
    request.header.type = types[choices.below(types.size())];
    request.header.sector = choices.flip() ? choices.below(160) : choices.next<std::uint64_t>();
    for (blk::Range& range : request.ranges) {
      range = {choices.below(130), static_cast<std::uint32_t>(choices.below(130)), choices.next<std::uint8_t>() & 3U};
    }
    const bool with_ranges = request.header.type == blk::type_discard || request.header.type == blk::type_write_zeroes;
    const auto bytes = std::as_bytes(std::span(&request, 1));
    driver.offer(queue, bytes.first(with_ranges ? sizeof request.header + sizeof(blk::Range) * (1 + choices.below(2))
                                                : sizeof request.header));
    if (choices.below(32) == 31) static_cast<void>(::ftruncate(file, static_cast<off_t>(choices.below(image_size))));
  };
  test::HostileLife(device, loop, test::fuzz_memory(), choices, special).run();
  struct stat info {};
  if (::fstat(file, &info) != 0 || static_cast<std::uint64_t>(info.st_size) > image_size) __builtin_trap();
  return 0;
}

// A virtqueue alone, on any ring contents: what pops is in RAM, and what is pushed arrives.
#include <vector>

#include "devices/virtio/virtqueue.h"
#include "tests/fuzz/hostile_driver.h"

using namespace minivm;
using namespace minivm::virtio;

namespace {

void check(bool holds) {
  if (!holds) __builtin_trap();
}

void check_chain(const DescriptorChain& chain, const Virtqueue& queue, const GuestMemory& memory) {
  check(chain.head() < queue.size());
  check(chain.readable().size() + chain.writable().size() <= DescriptorChain::max_buffers);
  const auto whole = memory.slice(Gpa{0}, memory.size()).value();
  std::uint64_t sizes[2] = {0, 0};
  for (const auto& parts : {chain.readable(), chain.writable()}) {
    for (const iovec& part : parts) {
      const auto* const begin = static_cast<const std::byte*>(part.iov_base);
      check(part.iov_len != 0 && begin >= whole.data() && begin + part.iov_len <= whole.data() + whole.size());
      sizes[parts.data() == chain.writable().data() ? 1 : 0] += part.iov_len;
    }
  }
  check(sizes[0] == chain.readable_size() && sizes[1] == chain.writable_size());
  check(chain.readable_size() + chain.writable_size() <= 0xFFFF'FFFF);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const GuestMemory& memory = test::fuzz_memory();
  test::Choices choices(data, size);
  test::HostileDriver driver(memory, choices, 1);
  const std::uint64_t features = choices.next<std::uint64_t>();
  auto queue = Virtqueue::create(driver.config(0, 32), 32, features, memory);
  check(queue.has_value());
  std::vector<std::uint16_t> held;
  DescriptorChain chain;
  while (!choices.empty()) {
    switch (choices.below(6)) {
      case 0:
        driver.offer(0, choices.take(16));
        break;
      case 1:
        queue->disable_notifications();
        break;
      case 2:
        queue->enable_notifications();
        queue->needs_interrupt();
        break;
      case 3:
        if (queue->pop(chain)) {
          check_chain(chain, *queue, memory);
          for (const iovec& part : chain.writable()) *static_cast<std::byte*>(part.iov_base) = std::byte{0};
          check(std::ranges::find(held, chain.head()) == held.end());  // rule 28
          if (choices.below(8) == 0) {
            queue->undo_pop();
          } else {
            held.push_back(chain.head());
          }
        }
        break;
      case 4:
        if (!held.empty()) {
          queue->push_used(held.back(), 1);
          held.pop_back();
        }
        break;
      default:
        driver.misbehave();
        break;
    }
  }
  check(held.size() <= queue->size());
  return 0;
}

#include "devices/virtio/rng.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>

namespace minivm::virtio {
namespace {

std::uint32_t fill_random(DescriptorChain& chain) noexcept {
  std::size_t filled = 0;
  for (const iovec& part : chain.writable()) {
    std::size_t done = 0;
    const std::size_t wanted = std::min(part.iov_len, Rng::max_bytes - filled);
    while (done < wanted) {
      const ssize_t got = ::getrandom(static_cast<std::byte*>(part.iov_base) + done, wanted - done, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return static_cast<std::uint32_t>(filled + done);
      done += static_cast<std::size_t>(got);
    }
    filled += done;
  }
  return static_cast<std::uint32_t>(filled);
}

}  // namespace

void Rng::on_notify(std::uint16_t) noexcept { requests_.serve(fill_random); }

}  // namespace minivm::virtio

#include "guest-init/upload.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

namespace minivm::guest {
namespace {

constexpr int rounds_per_turn = 16;

}  // namespace

int Upload::open(std::uint64_t size) noexcept {
  memory_.reset(memfd_create("program", MFD_CLOEXEC));
  left_ = size;
  error_ = 0;
  return memory_ ? 0 : errno;
}

Upload::Progress Upload::receive(int socket, std::span<std::byte> buffer) noexcept {
  for (int round = 0; round < rounds_per_turn; ++round) {
    if (left_ == 0) return Progress::complete;
    const ssize_t count = read(socket, buffer.data(), std::min<std::uint64_t>(buffer.size(), left_));
    if (count == 0) return fail(ENODATA);
    if (count < 0) return errno == EAGAIN || errno == EINTR ? Progress::waiting : fail(errno);
    const auto size = static_cast<std::size_t>(count);
    if (!store(buffer.first(size))) return fail(errno);
    left_ -= size;
  }
  return left_ == 0 ? Progress::complete : Progress::yielded;
}

bool Upload::store(std::span<const std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    // Written, not mapped: when memory is short this is an error here instead of SIGBUS for PID 1.
    const ssize_t count = write(memory_.get(), bytes.data(), bytes.size());
    if (count <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

Upload::Progress Upload::fail(int error) noexcept {
  error_ = error;
  memory_.reset();
  return Progress::failed;
}

}  // namespace minivm::guest

#pragma once

#include <liburing.h>

#include <cerrno>
#include <cstdint>

#include "devices/virtio/disk_operation.h"

namespace minivm::virtio {

/// Operations of one disk that the kernel carries out while the disk's loop goes on (io_uring). The kernel's part is
/// made at the first use: a disk that the page cache answers never pays for it. One thread at a time.
class DiskRing {
 public:
  /// Operations under way at once; with more the caller waits for one itself.
  static constexpr unsigned depth = 256;

  enum class State : std::uint8_t { unused, open, refused };

  DiskRing() = default;
  ~DiskRing();
  DiskRing(const DiskRing&) = delete;
  DiskRing& operator=(const DiskRing&) = delete;

  /// Makes the ring at the first call. False when the host has none to give, then and for ever.
  bool open() noexcept;
  State state() const noexcept { return state_; }
  /// Readable while results wait for `reap`.
  int fd() const noexcept { return ring_.ring_fd; }
  bool full() const noexcept { return in_flight_ == depth; }
  unsigned in_flight() const noexcept { return in_flight_; }

  /// Puts the operation into the ring, which must not be full; it and its buffers stay in place until `reap` hands it
  /// out. It begins with the next `submit`.
  void add(DiskOperation& operation) noexcept;
  /// False when the host could not take all of it now: call again later.
  bool submit() noexcept;
  /// Calls `ended(DiskOperation&)` for each operation that came to its end. What is left of others goes on.
  template <typename Ended>
  void reap(Ended ended) noexcept;
  /// Cancels what can be, waits for the rest: afterwards the kernel uses no buffer any more. Nothing is handed out.
  void stop() noexcept;

 private:
  bool take(DiskOperation** operation, int* result) noexcept;

  io_uring ring_{};
  State state_ = State::unused;
  unsigned in_flight_ = 0;
};

template <typename Ended>
void DiskRing::reap(Ended ended) noexcept {
  DiskOperation* operation = nullptr;
  int result = 0;
  bool more = false;
  while (take(&operation, &result)) {
    if (result == -EAGAIN) {
      run(*operation);  // the kernel did not want to wait for it
      ended(*operation);
    } else if (operation->advance(result)) {
      ended(*operation);
    } else {
      add(*operation);
      more = true;
    }
  }
  if (more) submit();
}

}  // namespace minivm::virtio

#include "devices/virtio/disk_ring.h"

#include <cstring>

#include "base/log.h"

namespace minivm::virtio {

DiskRing::~DiskRing() {
  stop();
  if (state_ == State::open) ::io_uring_queue_exit(&ring_);
}

bool DiskRing::open() noexcept {
  if (state_ != State::unused) return state_ == State::open;
  const int result = ::io_uring_queue_init(depth, &ring_, 0);
  state_ = result == 0 ? State::open : State::refused;
  if (result < 0) log::info("io_uring: {}; disks wait for each request instead", std::strerror(-result));
  return result == 0;
}

void DiskRing::add(DiskOperation& operation) noexcept {
  // There is one: no more than `depth` operations are under way, and each has one entry at most.
  io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_);
  const auto count = static_cast<unsigned>(operation.data.size());
  switch (operation.kind) {
    case DiskOperation::Kind::read:
      ::io_uring_prep_readv2(entry, operation.fd, operation.data.data(), count, operation.offset, operation.flags());
      break;
    case DiskOperation::Kind::write:
      ::io_uring_prep_writev2(entry, operation.fd, operation.data.data(), count, operation.offset, operation.flags());
      break;
    case DiskOperation::Kind::flush:
      ::io_uring_prep_fsync(entry, operation.fd, IORING_FSYNC_DATASYNC);
      break;
  }
  ::io_uring_sqe_set_data(entry, &operation);
  ++in_flight_;
}

bool DiskRing::submit() noexcept {
  if (state_ != State::open || ::io_uring_sq_ready(&ring_) == 0) return true;
  ::io_uring_submit(&ring_);
  return ::io_uring_sq_ready(&ring_) == 0;
}

bool DiskRing::take(DiskOperation** operation, int* result) noexcept {
  io_uring_cqe* completion = nullptr;
  if (::io_uring_peek_cqe(&ring_, &completion) != 0) return false;
  *operation = static_cast<DiskOperation*>(::io_uring_cqe_get_data(completion));
  *result = completion->res;
  ::io_uring_cqe_seen(&ring_, completion);
  --in_flight_;
  return true;
}

void DiskRing::stop() noexcept {
  if (state_ != State::open || in_flight_ == 0) return;
  io_uring_sync_cancel_reg everything{};
  everything.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
  ::io_uring_register_sync_cancel(&ring_, &everything);
  while (in_flight_ > 0) {
    submit();
    if (::io_uring_sq_ready(&ring_) == in_flight_) break;  // the kernel does not know of the rest
    io_uring_cqe* completion = nullptr;
    ::io_uring_wait_cqe(&ring_, &completion);
    DiskOperation* operation = nullptr;
    int result = 0;
    while (take(&operation, &result)) continue;
  }
  if (in_flight_ == 0) return;
  ::io_uring_queue_exit(&ring_);
  in_flight_ = 0;
  state_ = State::unused;
}

}  // namespace minivm::virtio

#include "devices/virtio/blk.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "devices/virtio/iovecs.h"

namespace minivm::virtio {
namespace {

std::uint64_t total_size(std::span<const iovec> parts) noexcept {
  std::uint64_t size = 0;
  for (const iovec& part : parts) size += part.iov_len;
  return size;
}

}  // namespace

Blk::Blk(DiskImage image, std::string_view id) : image_(std::move(image)) {
  const auto bytes = std::as_bytes(std::span(id));
  std::ranges::copy(bytes.first(std::min(bytes.size(), id_.size())), id_.begin());
}

std::uint64_t Blk::features() const noexcept {
  return feature::version_1 | feature::indirect_desc | feature::event_idx | blk::feature_seg_max |
         blk::feature_blk_size | blk::feature_flush | (image_.read_only ? blk::feature_ro : 0);
}

void Blk::read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept {
  // Header and status take a descriptor each; so a request fits into the queue with and without an indirect table.
  const blk::Config config{.capacity = image_.size / blk::sector_size,
                           .seg_max = queue_size - 2,
                           .blk_size = static_cast<std::uint32_t>(blk::sector_size)};
  copy_config(std::as_bytes(std::span(&config, 1)), offset, data);
}

void Blk::activate(Activation activation) noexcept {
  write_through_ = (activation.features & blk::feature_flush) == 0;
  requests_.activate(std::move(activation));
}

void Blk::on_notify(std::uint16_t) noexcept {
  requests_.serve([this](DescriptorChain& chain) noexcept { return execute(chain); });
}

// VirtIO 1.2, 5.2.6: header, data, status byte, in buffers of any shape.
std::uint32_t Blk::execute(DescriptorChain& chain) noexcept {
  if (chain.writable().empty()) return 0;  // no room for a status: the chain goes back all the same
  const iovec& last = chain.writable().back();
  std::byte* const status = static_cast<std::byte*>(last.iov_base) + last.iov_len - 1;
  blk::RequestHeader header;
  const bool whole = copy_front(chain.readable(), std::as_writable_bytes(std::span(&header, 1))) == sizeof header;
  const Outcome outcome = whole ? perform(header, chain) : Outcome{blk::Status::io_error};
  *status = std::byte{std::to_underlying(outcome.status)};
  return static_cast<std::uint32_t>(outcome.stored + 1);
}

Blk::Outcome Blk::perform(const blk::RequestHeader& header, DescriptorChain& chain) noexcept {
  const std::span<iovec> space = keep_front(chain.writable(), chain.writable_size() - 1);
  switch (header.type) {
    case blk::type_in:
      return transfer(Direction::from_image, header.sector, space);
    case blk::type_out:
      return transfer(Direction::to_image, header.sector, drop_front(chain.readable(), sizeof header));
    case blk::type_flush:
      return flush();
    case blk::type_get_id:
      return {blk::Status::ok, store_front(space, id_)};
    default:
      return {blk::Status::unsupported};
  }
}

Blk::Outcome Blk::transfer(Direction direction, std::uint64_t sector, std::span<iovec> data) noexcept {
  const bool writes = direction == Direction::to_image;
  const std::uint64_t size = total_size(data);
  const std::uint64_t capacity = image_.size / blk::sector_size;
  // Judged in sectors: sector * 512 could overflow.
  if (size % blk::sector_size != 0 || sector > capacity || size / blk::sector_size > capacity - sector ||
      (writes && image_.read_only)) {
    return {blk::Status::io_error};
  }
  std::uint64_t done = 0;
  while (!data.empty()) {
    const auto offset = static_cast<off_t>(sector * blk::sector_size + done);
    const auto count = static_cast<int>(data.size());
    const ssize_t moved =
        writes ? ::pwritev2(image_.file.get(), data.data(), count, offset, write_through_ ? RWF_DSYNC : 0)
               : ::preadv(image_.file.get(), data.data(), count, offset);
    if (moved < 0 && errno == EINTR) continue;
    if (moved == 0) errno = ENODATA;  // the image has become shorter
    if (moved <= 0) {
      Outcome failed = io_error(writes ? "write" : "read", static_cast<std::uint64_t>(offset));
      failed.stored = writes ? 0 : done;
      return failed;
    }
    done += static_cast<std::uint64_t>(moved);
    data = drop_front(data, static_cast<std::size_t>(moved));
  }
  return {blk::Status::ok, writes ? 0 : done};
}

Blk::Outcome Blk::flush() noexcept {
  // Also on a read-only disk, where there is nothing to do.
  if (image_.read_only || ::fdatasync(image_.file.get()) == 0) return {blk::Status::ok};
  return io_error("flush", 0);
}

Blk::Outcome Blk::io_error(std::string_view step, std::uint64_t offset) noexcept {
  host_faults_.warning("disk {}: {} at byte {}: {}", image_.path, step, offset, std::strerror(errno));
  return {blk::Status::io_error};
}

}  // namespace minivm::virtio

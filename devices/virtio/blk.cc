#include "devices/virtio/blk.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "devices/virtio/disk_space.h"
#include "devices/virtio/iovecs.h"

namespace minivm::virtio {
namespace {

// Header and status take a descriptor each.
constexpr std::uint32_t direct_segments = Blk::queue_size - 2;
constexpr std::uint32_t indirect_segments = DescriptorChain::max_buffers - 2;

std::uint64_t total_size(std::span<const iovec> parts) noexcept {
  std::uint64_t size = 0;
  for (const iovec& part : parts) size += part.iov_len;
  return size;
}

blk::Config make_config(const DiskImage& image, std::size_t queues) noexcept {
  const BlockSizes& blocks = image.blocks;
  const std::uint32_t physical_blocks = blocks.physical / blocks.logical;
  return {.capacity = image.size / blk::sector_size,
          .seg_max = direct_segments,
          .blk_size = blocks.logical,
          .physical_block_exp = static_cast<std::uint8_t>(std::countr_zero(physical_blocks)),
          .min_io_size = static_cast<std::uint16_t>(physical_blocks),
          .opt_io_size = blocks.optimal / blocks.logical,
          .writeback = 1,
          .num_queues = static_cast<std::uint16_t>(queues),
          .max_discard_sectors = Blk::max_discard_sectors,
          .max_discard_seg = Blk::max_discard_ranges,
          .discard_sector_alignment = blocks.physical / static_cast<std::uint32_t>(blk::sector_size),
          .max_write_zeroes_sectors = Blk::max_write_zeroes_sectors,
          .max_write_zeroes_seg = Blk::max_write_zeroes_ranges,
          .write_zeroes_may_unmap = 1};
}

bool aligned_for_direct(const DiskImage& image, const DiskOperation& operation) noexcept {
  if (operation.offset % image.direct_alignment != 0) return false;
  return std::ranges::all_of(operation.data, [&](const iovec& part) {
    return part.iov_len % image.direct_alignment == 0 &&
           reinterpret_cast<std::uintptr_t>(part.iov_base) % image.direct_memory_alignment == 0;
  });
}

}  // namespace

Blk::Blk(DiskImage image, std::string_view id, EventLoop& loop, const Options& options)
    : loop_(loop),
      image_(std::move(image)),
      queue_sizes_(std::clamp<std::uint16_t>(options.queues, 1, max_queues), queue_size),
      config_(make_config(image_, queue_sizes_.size())),
      limiter_(options.limit),
      size_check_(options.size_check) {
  const auto bytes = std::as_bytes(std::span(id));
  std::ranges::copy(bytes.first(std::min(bytes.size(), id_.size())), id_.begin());
}

Blk::~Blk() {
  if (ring_.state() == DiskRing::State::open) loop_.unwatch(ring_.fd());
  loop_.cancel(limit_timer_);
  loop_.cancel(size_timer_);
}

std::uint64_t Blk::features() const noexcept {
  return feature::version_1 | feature::indirect_desc | feature::event_idx | blk::feature_seg_max |
         blk::feature_blk_size | blk::feature_flush | blk::feature_topology | blk::feature_config_wce |
         (queue_sizes_.size() > 1 ? blk::feature_mq : 0) |
         (image_.read_only ? blk::feature_ro : blk::feature_discard | blk::feature_write_zeroes);
}

void Blk::features_accepted(std::uint64_t features) noexcept {
  const bool flushes = features == 0 || (features & blk::feature_flush) != 0;
  // VirtIO 1.2, 5.2.5.2: the cache is on at first, unless the driver cannot flush it.
  write_back_ = flushes;
  cache_switchable_ = flushes && (features & blk::feature_config_wce) != 0;
  config_.update([&](blk::Config& config) {
    config.writeback = flushes ? 1 : 0;
    config.seg_max = (features & feature::indirect_desc) != 0 ? indirect_segments : direct_segments;
  });
}

void Blk::read_config(std::uint64_t offset, std::span<std::byte> data) const noexcept { config_.read(offset, data); }

void Blk::write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept {
  if (!cache_switchable_ || offset != offsetof(blk::Config, writeback) || data.size() != 1) return;
  write_back_ = data[0] != std::byte{0};
  config_.update([&](blk::Config& config) { config.writeback = write_back_ ? 1 : 0; });
}

void Blk::activate(Activation activation) noexcept {
  accepted_ = activation.features;
  requests_.activate(std::move(activation));
  check_size();
}

void Blk::reset() noexcept {
  if (ring_.state() == DiskRing::State::open) {
    const int fd = ring_.fd();
    ring_.stop();
    if (ring_.state() != DiskRing::State::open) loop_.unwatch(fd);
  }
  free_.clear();
  for (const auto& waiting : waiting_) free_.push_back(waiting.get());
  requests_.reset();
  loop_.cancel(size_timer_);
}

void Blk::on_notify(std::uint16_t queue) noexcept {
  requests_.serve(
      queue, [this]() noexcept { return may_begin(); },
      [this, queue](DescriptorChain& chain) noexcept { return execute(queue, chain); });
  submit();
}

// VirtIO 1.2, 5.2.6: header, data, status byte, in buffers of any shape.
Blk::Answer Blk::execute(std::uint16_t queue, DescriptorChain& chain) noexcept {
  limiter_.count(chain.readable_size() + chain.writable_size());
  if (chain.writable().empty()) return 0;  // no room for a status: the chain goes back all the same
  const iovec& last = chain.writable().back();
  const Request request{queue, chain.head(), static_cast<std::byte*>(last.iov_base) + last.iov_len - 1};
  blk::RequestHeader header;
  const bool whole = copy_front(chain.readable(), std::as_writable_bytes(std::span(&header, 1))) == sizeof header;
  return whole ? perform(request, header, chain) : answer(request, blk::Status::io_error);
}

Blk::Answer Blk::perform(const Request& request, const blk::RequestHeader& header, DescriptorChain& chain) noexcept {
  const std::span<iovec> space = keep_front(chain.writable(), chain.writable_size() - 1);
  const std::span<iovec> data = drop_front(chain.readable(), sizeof header);
  switch (header.type) {
    case blk::type_in:
      return transfer(request, DiskOperation::Kind::read, header.sector, space);
    case blk::type_out:
      return transfer(request, DiskOperation::Kind::write, header.sector, data);
    case blk::type_flush:
      return flush(request);
    case blk::type_get_id:
      return answer(request, blk::Status::ok, store_front(space, id_));
    case blk::type_discard:
    case blk::type_write_zeroes:
      return answer(request, release(header.type, data));
    default:
      return answer(request, blk::Status::unsupported);
  }
}

Blk::Answer Blk::transfer(const Request& request, DiskOperation::Kind kind, std::uint64_t sector,
                          std::span<iovec> data) noexcept {
  const bool writes = kind == DiskOperation::Kind::write;
  const std::uint64_t size = total_size(data);
  if (size % blk::sector_size != 0 || !covers(sector, size / blk::sector_size) || (writes && image_.read_only)) {
    return answer(request, blk::Status::io_error);
  }
  DiskOperation operation{.kind = kind,
                          .stable = writes && write_through(),
                          .fd = image_.file.get(),
                          .offset = sector * blk::sector_size,
                          .data = data};
  if (image_.direct && aligned_for_direct(image_, operation)) operation.fd = image_.direct.get();
  return start(request, operation);
}

Blk::Answer Blk::flush(const Request& request) noexcept {
  // Also on a read-only disk, where there is nothing to do.
  if (image_.read_only) return answer(request, blk::Status::ok);
  return start(request, {.kind = DiskOperation::Kind::flush, .fd = image_.file.get()});
}

// Discard and write zeroes (VirtIO 1.2, 5.2.6): every range is judged before the first is touched.
blk::Status Blk::release(std::uint32_t type, std::span<const iovec> data) noexcept {
  const bool zeroes = type == blk::type_write_zeroes;
  if ((accepted_ & (zeroes ? blk::feature_write_zeroes : blk::feature_discard)) == 0) return blk::Status::unsupported;
  std::array<blk::Range, std::max(max_discard_ranges, max_write_zeroes_ranges)> room{};
  const std::uint64_t size = total_size(data);
  const std::size_t most = zeroes ? max_write_zeroes_ranges : max_discard_ranges;
  if (image_.read_only || size == 0 || size % sizeof(blk::Range) != 0 || size > most * sizeof(blk::Range)) {
    return blk::Status::io_error;
  }
  copy_front(data, std::as_writable_bytes(std::span(room)));
  const auto ranges = std::span<const blk::Range>(room).first(size / sizeof(blk::Range));
  const blk::Status verdict = judge(type, ranges);
  if (verdict != blk::Status::ok) return verdict;
  for (const blk::Range& range : ranges) {
    const std::uint64_t offset = range.sector * blk::sector_size;
    const std::uint64_t length = range.num_sectors * blk::sector_size;
    int error = 0;
    if (zeroes) {
      limiter_.count(length);  // the host may have to write it all
      error = write_zeroes(image_, offset, length, (range.flags & blk::Range::unmap_flag) != 0);
    } else if (can_discard_) {
      error = discard(image_, offset, length);
      can_discard_ = error != EOPNOTSUPP;
    }
    if (error == EOPNOTSUPP || (!zeroes && !can_discard_)) return blk::Status::unsupported;
    if (error == 0 && zeroes && write_through() && ::fdatasync(image_.file.get()) != 0) error = errno;
    if (error != 0) {
      log_failure(zeroes ? "write zeroes" : "discard", offset, error);
      return blk::Status::io_error;
    }
  }
  return blk::Status::ok;
}

blk::Status Blk::judge(std::uint32_t type, std::span<const blk::Range> ranges) const noexcept {
  const bool zeroes = type == blk::type_write_zeroes;
  // VirtIO 1.2, 5.2.6.2: an unknown flag, and unmap on a discard, is unsupported.
  const std::uint32_t known_flags = zeroes ? blk::Range::unmap_flag : 0;
  for (const blk::Range& range : ranges) {
    if ((range.flags & ~known_flags) != 0) return blk::Status::unsupported;
    if (range.num_sectors > (zeroes ? max_write_zeroes_sectors : max_discard_sectors)) return blk::Status::io_error;
    if (!covers(range.sector, range.num_sectors)) return blk::Status::io_error;
  }
  return blk::Status::ok;
}

// Judged in sectors: sector * 512 could overflow.
bool Blk::covers(std::uint64_t sector, std::uint64_t count) const noexcept {
  const std::uint64_t capacity = image_.size / blk::sector_size;
  return sector <= capacity && count <= capacity - sector;
}

bool Blk::write_through() const noexcept { return (accepted_ & blk::feature_flush) == 0 || !write_back_; }

Blk::Answer Blk::start(const Request& request, DiskOperation operation) noexcept {
  if (ends_here(operation)) return finish(request, operation);
  Waiting& waiting = take_waiting();
  waiting.parts.assign(operation.data.begin(), operation.data.end());
  static_cast<DiskOperation&>(waiting) = operation;
  waiting.data = waiting.parts;
  waiting.request = request;
  ring_.add(waiting);
  return std::nullopt;
}

// True when the operation has come to its end; else what is left of it is for the ring.
bool Blk::ends_here(DiskOperation& operation) noexcept {
  const bool flushes = operation.kind == DiskOperation::Kind::flush;
  if (!flushes && operation.data.empty()) return true;
  const bool waits = flushes ? ring_.state() == DiskRing::State::open : operation.fd == image_.direct.get();
  if (!waits) {
    if (operation.kind == DiskOperation::Kind::read) {
      if (read_from_cache(operation)) return true;
    } else {
      run(operation);
      return true;
    }
  }
  if (ring_ready() && !ring_.full()) return false;
  run(operation);
  return true;
}

bool Blk::ring_ready() noexcept {
  if (ring_.state() != DiskRing::State::unused) return ring_.state() == DiskRing::State::open;
  if (!ring_.open()) return false;
  loop_.watch(ring_.fd(), EPOLLIN, [this](std::uint32_t) { on_ring(); });
  return true;
}

Blk::Waiting& Blk::take_waiting() {
  if (free_.empty()) free_.push_back(waiting_.emplace_back(std::make_unique<Waiting>()).get());
  Waiting& waiting = *free_.back();
  free_.pop_back();
  return waiting;
}

void Blk::submit() noexcept {
  if (ring_.submit()) return;
  // The host is short of memory.
  loop_.after(std::chrono::milliseconds(10), [this] { submit(); });
}

void Blk::on_ring() noexcept {
  ring_.reap([this](DiskOperation& operation) {
    auto& waiting = static_cast<Waiting&>(operation);
    requests_.answer(waiting.request.queue, waiting.request.head, finish(waiting.request, waiting));
    free_.push_back(&waiting);
  });
  requests_.interrupt();
  submit();
}

std::uint32_t Blk::finish(const Request& request, const DiskOperation& operation) noexcept {
  using Kind = DiskOperation::Kind;
  const std::uint64_t stored = operation.kind == Kind::read ? operation.moved : 0;
  if (operation.error == 0) return answer(request, blk::Status::ok, stored);
  const std::string_view step = operation.kind == Kind::read    ? "read"
                                : operation.kind == Kind::write ? "write"
                                                                : "flush";
  log_failure(step, operation.offset, operation.error);
  return answer(request, blk::Status::io_error, stored);
}

std::uint32_t Blk::answer(const Request& request, blk::Status status, std::uint64_t stored) noexcept {
  *request.status = std::byte{std::to_underlying(status)};
  return static_cast<std::uint32_t>(stored + 1);
}

bool Blk::may_begin() noexcept {
  const auto wait = limiter_.wait();
  if (wait == RateLimiter::Clock::duration::zero()) return true;
  if (limit_timer_ != 0) return false;
  limit_timer_ = loop_.after(wait, [this] {
    limit_timer_ = 0;
    const auto queues = static_cast<std::uint16_t>(queue_sizes_.size());
    for (std::uint16_t queue = 0; queue < queues; ++queue) on_notify(queue);
  });
  return false;
}

void Blk::check_size() noexcept {
  size_timer_ = loop_.after(size_check_, [this] { check_size(); });
  const std::uint64_t size = current_size(image_);
  if (size == std::exchange(image_.size, size)) return;
  log::info("disk {}: has {} bytes now", image_.path, size);
  config_.update([size](blk::Config& config) { config.capacity = size / blk::sector_size; });
  if (const Activation* active = requests_.active()) active->interrupt->signal_configuration();
}

void Blk::log_failure(std::string_view step, std::uint64_t offset, int error) noexcept {
  host_faults_.warning("disk {}: {} at byte {}: {}", image_.path, step, offset, std::strerror(error));
}

}  // namespace minivm::virtio

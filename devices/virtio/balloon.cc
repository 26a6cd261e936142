#include "devices/virtio/balloon.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "devices/virtio/iovecs.h"

namespace minivm::virtio {
namespace {

/// Gives whole pages back to the host; they are zero when they are next touched. A page that the
/// range only touches stays, and so do those of a mapped kernel, which would not be zero: a guest that zeroes pages
/// when it frees them counts on it.
void release(const GuestMemory& memory, std::byte* start, std::size_t size) noexcept {
  if (memory.may_map_file({start, size})) return;
  const std::size_t before = -reinterpret_cast<std::uintptr_t>(start) % balloon::page_size;
  if (size < before) return;
  const std::size_t whole = (size - before) / balloon::page_size * balloon::page_size;
  // Only advice: a host that does not take the pages keeps them.
  if (whole != 0) ::madvise(start + before, whole, MADV_DONTNEED);
}

MemoryStatistics read_statistics(std::span<const iovec> parts) noexcept {
  std::array<balloon::Statistic, Balloon::max_statistics> entries;
  const std::size_t count = copy_front(parts, std::as_writable_bytes(std::span(entries))) / sizeof entries[0];
  MemoryStatistics statistics;
  for (const balloon::Statistic& entry : std::span(entries).first(count)) {
    const std::uint64_t value = entry.value;  // a field of a packed structure cannot be referred to
    if (entry.tag < statistics.size()) statistics[entry.tag] = value;
  }
  return statistics;
}

}  // namespace

std::uint64_t Balloon::features() const noexcept {
  return feature::version_1 | feature::indirect_desc | feature::event_idx | balloon::feature_stats_vq |
         balloon::feature_deflate_on_oom | balloon::feature_page_poison | balloon::feature_page_reporting;
}

void Balloon::write_config(std::uint64_t offset, std::span<const std::byte> data) noexcept {
  const bool is_actual = offset == offsetof(balloon::Config, actual);
  const bool is_poison = offset == offsetof(balloon::Config, poison_val);
  std::uint32_t value = 0;
  if ((!is_actual && !is_poison) || data.size() != sizeof value) return;
  std::memcpy(&value, data.data(), sizeof value);
  config_.update([&](balloon::Config& config) { (is_actual ? config.actual : config.poison_val) = value; });
}

std::uint32_t Balloon::field(std::uint64_t offset) const noexcept {
  std::uint32_t value = 0;
  config_.read(offset, std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

std::uint64_t Balloon::given() const noexcept {
  return std::uint64_t{field(offsetof(balloon::Config, actual))} * balloon::page_size;
}

void Balloon::activate(Activation activation) noexcept {
  const bool statistics = (activation.features & balloon::feature_stats_vq) != 0;
  reporting_ = 0;
  if ((activation.features & balloon::feature_page_reporting) != 0) {
    const std::uint16_t counted = statistics ? 3 : 2;
    reporting_ = activation.queues[balloon::reporting_queue] ? balloon::reporting_queue : counted;
  }
  requests_.activate(std::move(activation));
}

void Balloon::reset() noexcept {
  requests_.reset();
  reporting_ = 0;
  statistics_in_.reset();
  on_statistics_ = nullptr;
  config_.update([](balloon::Config& config) { config = {.num_pages = config.num_pages}; });
}

void Balloon::on_notify(std::uint16_t queue) noexcept {
  if (queue == balloon::inflate_queue) {
    requests_.serve(queue, [this](const DescriptorChain& chain) noexcept { return inflate(chain); });
  } else if (queue == balloon::deflate_queue) {
    // The guest takes pages back by touching them.
    requests_.serve(queue, [](const DescriptorChain&) noexcept { return 0U; });
  } else if (queue == reporting_) {
    serve_reports();
  } else if (queue == balloon::stats_queue) {
    serve_statistics();
  }
}

// 5.5.6.1: the buffers hold page numbers. Neighbours are given back together.
std::uint32_t Balloon::inflate(const DescriptorChain& chain) const noexcept {
  std::array<std::uint32_t, max_pages> pages;
  const std::size_t count = copy_front(chain.readable(), std::as_writable_bytes(std::span(pages))) / sizeof pages[0];
  std::ranges::sort(std::span(pages).first(count));
  for (std::size_t first = 0; first < count;) {
    std::size_t end = first + 1;
    while (end < count && pages[end] - pages[end - 1] <= 1) ++end;
    const std::uint64_t size = (std::uint64_t{pages[end - 1]} - pages[first] + 1) * balloon::page_size;
    if (const auto bytes = memory_.slice(Gpa{pages[first] * balloon::page_size}, size)) {
      release(memory_, bytes->data(), bytes->size());
    }
    first = end;
  }
  return 0;
}

// 5.5.6.7: the buffers are the free pages themselves. Released before the chain goes back, since the guest may use them
// from then on.
void Balloon::serve_reports() noexcept {
  // Pages that are to hold a pattern would not have it after they came back as zeroes.
  const bool keep = field(offsetof(balloon::Config, poison_val)) != 0;
  requests_.serve(reporting_, [this, keep](const DescriptorChain& chain) noexcept {
    for (const iovec& part : chain.writable()) {
      if (!keep) release_reported(static_cast<std::byte*>(part.iov_base), part.iov_len);
    }
    return 0U;
  });
}

void Balloon::release_reported(std::byte* start, std::size_t size) noexcept {
  while (size != 0) {
    const std::size_t before = reinterpret_cast<std::uintptr_t>(start) % GuestMemory::huge_page_size;
    const std::size_t part = std::min(size, GuestMemory::huge_page_size - before);
    if (part == GuestMemory::huge_page_size || split(start - before)) release(memory_, start, part);
    start += part;
    size -= part;
  }
}

// Were they not split, the host would make one huge page of the rest again, and fill up what the guest gave back.
bool Balloon::split(std::byte* huge_page) noexcept {
  const auto known = std::span(split_).first(split_count_);
  if (std::ranges::find(known, huge_page) != known.end()) return true;
  if (split_count_ == max_split) return false;
  split_[split_count_++] = huge_page;
  GuestMemory::prefer_small_pages(huge_page);
  return true;
}

// 5.5.6.3: the driver has one buffer, filled; it goes back when other statistics are wanted.
void Balloon::serve_statistics() noexcept {
  Activation* active = requests_.active();
  if (active == nullptr || !active->queues[balloon::stats_queue]) return;
  Virtqueue& queue = *active->queues[balloon::stats_queue];
  for (int served = 0; served < RequestQueues::max_batch && queue.pop(chain_); ++served) {
    // A driver that makes a second one available gets the first one back.
    if (statistics_in_) queue.push_used(*statistics_in_, 0);
    statistics_in_ = chain_.head();
    if (on_statistics_) std::exchange(on_statistics_, nullptr)(read_statistics(chain_.readable()));
  }
  if (queue.enable_notifications()) active->call_again(balloon::stats_queue);
  if (queue.needs_interrupt()) active->interrupt->signal_used(balloon::stats_queue);
  if (!queue.broken()) return;
  statistics_in_.reset();
  active->needs_reset();
  active->queues[balloon::stats_queue].reset();
}

bool Balloon::request_statistics(OnStatistics on_statistics) {
  Activation* active = requests_.active();
  if (active == nullptr || !statistics_in_ || on_statistics_) return false;
  on_statistics_ = std::move(on_statistics);
  Virtqueue& queue = *active->queues[balloon::stats_queue];
  queue.push_used(*std::exchange(statistics_in_, std::nullopt), 0);
  if (queue.needs_interrupt()) active->interrupt->signal_used(balloon::stats_queue);
  return true;
}

}  // namespace minivm::virtio

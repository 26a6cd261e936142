#include "guest-init/page_reports.h"

#include <fcntl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <ctime>
#include <string_view>
#include <utility>

#include "guest-init/file.h"

namespace minivm::guest {
namespace {

// In pages, as a power of two: 64 KiB.
constexpr std::string_view small_order = "4";
// The kernel waits 2 s before it reports for the first time, and as long again before each sixteenth of a long list.
constexpr time_t seconds = 5;

}  // namespace

PageReports PageReports::of_small_parts() noexcept {
  PageReports reports;
  Fd order = open_file("/sys/module/page_reporting/parameters/page_reporting_order", O_RDWR);
  if (!order) return reports;
  const ssize_t size = pread(order.get(), reports.chosen_, sizeof reports.chosen_, 0);
  Fd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  const itimerspec once{.it_interval = {}, .it_value = {.tv_sec = seconds, .tv_nsec = 0}};
  if (size <= 0 || !timer || timerfd_settime(timer.get(), 0, &once, nullptr) != 0) return reports;
  if (pwrite(order.get(), small_order.data(), small_order.size(), 0) < 0) return reports;
  reports.order_ = std::move(order);
  reports.chosen_size_ = static_cast<std::size_t>(size);
  reports.timer_ = std::move(timer);
  return reports;
}

void PageReports::restore() noexcept {
  [[maybe_unused]] const ssize_t ignored = pwrite(order_.get(), chosen_, chosen_size_, 0);
  timer_.reset();
  order_.reset();
}

}  // namespace minivm::guest

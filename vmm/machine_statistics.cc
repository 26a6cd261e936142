#include "vmm/machine_statistics.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <string_view>

#include "base/fd.h"
#include "devices/virtio/spec.h"

namespace minivm {
namespace {

std::uint64_t resident_bytes() {
  // proc(5): the second number of statm is the resident set in pages.
  std::array<char, 128> text{};
  const UniqueFd file = open_file("/proc/self/statm", O_RDONLY);
  if (::read(file.get(), text.data(), text.size() - 1) <= 0) return 0;
  unsigned long long total = 0;
  unsigned long long resident = 0;
  if (std::sscanf(text.data(), "%llu %llu", &total, &resident) != 2) return 0;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::uint64_t microseconds(const timeval& time) {
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(time.tv_usec);
}

/// KVM's names and ours. Userspace sees only some of the exits: the rest is handled in the kernel.
constexpr std::array exit_names{
    std::pair<std::string_view, std::string_view>{"exits", "exits"},
    std::pair<std::string_view, std::string_view>{"io_exits", "exits.port_io"},
    std::pair<std::string_view, std::string_view>{"mmio_exits", "exits.mmio"},
    std::pair<std::string_view, std::string_view>{"irq_exits", "exits.host_interrupt"},
    std::pair<std::string_view, std::string_view>{"halt_exits", "exits.halt"},
    std::pair<std::string_view, std::string_view>{"irq_injections", "interrupts"},
};

/// By balloon::Tag.
constexpr std::array<std::string_view, virtio::balloon::tag_count> guest_names{
    "guest.swap_in", "guest.swap_out",  "guest.major_faults", "guest.minor_faults",        "guest.free",
    "guest.total",   "guest.available", "guest.disk_caches",  "guest.hugetlb_allocations", "guest.hugetlb_failures"};

}  // namespace

void append_process_statistics(MachineStatistics& statistics) {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  statistics.emplace_back("host.resident", resident_bytes());
  statistics.emplace_back("host.cpu_user_us", microseconds(usage.ru_utime));  // the guest's own time is in it
  statistics.emplace_back("host.cpu_system_us", microseconds(usage.ru_stime));
}

void append_exit_statistics(MachineStatistics& statistics, const std::vector<std::unique_ptr<Vcpu>>& vcpus) {
  std::array<std::string_view, exit_names.size()> wanted;
  std::ranges::transform(exit_names, wanted.begin(), &std::pair<std::string_view, std::string_view>::first);
  std::array<std::optional<std::uint64_t>, exit_names.size()> sums;
  for (const auto& vcpu : vcpus) {
    for (const auto& [name, value] : vcpu->statistics(wanted)) {
      const auto index = static_cast<std::size_t>(std::ranges::find(wanted, name) - wanted.begin());
      sums[index] = sums[index].value_or(0) + value;
    }
  }
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (sums[i]) statistics.emplace_back(exit_names[i].second, *sums[i]);
  }
}

void append_guest_statistics(MachineStatistics& statistics, const virtio::MemoryStatistics& guest) {
  for (std::size_t tag = 0; tag < guest.size(); ++tag) {
    if (guest[tag]) statistics.emplace_back(guest_names[tag], *guest[tag]);
  }
}

}  // namespace minivm

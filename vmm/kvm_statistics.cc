#include "vmm/kvm_statistics.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

namespace minivm {
namespace {

// Far above what KVM has: a kernel that says more is not believed.
constexpr std::uint32_t max_statistics = 4096;
constexpr std::uint32_t max_name = 256;

/// struct kvm_stats_desc without its name, a flexible array that C++ would move.
struct Descriptor {
  std::uint32_t flags = 0;
  std::int16_t exponent = 0;
  std::uint16_t size = 0;
  std::uint32_t offset = 0;
  std::uint32_t bucket_size = 0;
};
static_assert(sizeof(Descriptor) == 16);

template <typename T>
std::optional<T> read_value(int fd, std::uint64_t offset) {
  T value{};
  if (::pread(fd, &value, sizeof value, static_cast<off_t>(offset)) != static_cast<ssize_t>(sizeof value)) return {};
  return value;
}

/// Where the data of each single number is.
std::map<std::string, std::uint64_t> find_numbers(int fd, const kvm_stats_header& header) {
  const std::size_t stride = sizeof(Descriptor) + header.name_size;
  std::vector<char> block(stride * header.num_desc);
  const ssize_t size = ::pread(fd, block.data(), block.size(), header.desc_offset);
  std::map<std::string, std::uint64_t> found;
  for (std::size_t at = 0; at + stride <= static_cast<std::size_t>(std::max<ssize_t>(size, 0)); at += stride) {
    Descriptor descriptor;
    std::memcpy(&descriptor, block.data() + at, sizeof descriptor);
    const char* const name = block.data() + at + sizeof descriptor;
    if (descriptor.size != 1) continue;
    found[std::string(name, ::strnlen(name, header.name_size))] = std::uint64_t{header.data_offset} + descriptor.offset;
  }
  return found;
}

}  // namespace

UniqueFd open_kvm_statistics(int vcpu_fd) noexcept { return UniqueFd(::ioctl(vcpu_fd, KVM_GET_STATS_FD, 0UL)); }

std::vector<std::pair<std::string, std::uint64_t>> read_kvm_statistics(int statistics_fd,
                                                                       std::span<const std::string_view> names) {
  const auto header = read_value<kvm_stats_header>(statistics_fd, 0);
  if (!header || header->num_desc > max_statistics || header->name_size > max_name) return {};
  const auto numbers = find_numbers(statistics_fd, *header);
  std::vector<std::pair<std::string, std::uint64_t>> statistics;
  for (const std::string_view name : names) {
    const auto number = numbers.find(std::string(name));
    if (number == numbers.end()) continue;
    if (const auto value = read_value<std::uint64_t>(statistics_fd, number->second)) {
      statistics.emplace_back(name, *value);
    }
  }
  return statistics;
}

}  // namespace minivm

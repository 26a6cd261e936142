#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"

namespace minivm {

/// The file in which KVM counts what a vCPU does (api.rst, 4.133, KVM_GET_STATS_FD); nothing when it has none. While
/// the vCPU runs, this call would wait for it to leave the guest.
UniqueFd open_kvm_statistics(int vcpu_fd) noexcept;

/// Single cumulative numbers of such a file by their names, in the order of `names`; those that this KVM does not have,
/// or that cannot be had at all, are left out. Any thread, and whatever the vCPU does.
std::vector<std::pair<std::string, std::uint64_t>> read_kvm_statistics(int statistics_fd,
                                                                       std::span<const std::string_view> names);

}  // namespace minivm

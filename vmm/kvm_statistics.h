#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace minivm {

/// What KVM counts of a vCPU (api.rst, 4.133, KVM_GET_STATS_FD): single cumulative numbers by their names, in the
/// order of `names`; those that this KVM does not have, or that cannot be had at all, are left out.
std::vector<std::pair<std::string, std::uint64_t>> read_kvm_statistics(int vcpu_fd,
                                                                       std::span<const std::string_view> names);

}  // namespace minivm

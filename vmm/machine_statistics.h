#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "devices/virtio/balloon.h"
#include "vmm/vcpu.h"

namespace minivm {

/// Numbers of a running machine by their names, in an order for people. Sizes are in bytes, times in microseconds.
using MachineStatistics = std::vector<std::pair<std::string, std::uint64_t>>;

/// What this process takes from its host: resident memory, the guest's RAM included, and CPU time.
void append_process_statistics(MachineStatistics& statistics);
/// What made the vCPUs leave the guest, all of them together.
void append_exit_statistics(MachineStatistics& statistics, const std::vector<std::unique_ptr<Vcpu>>& vcpus);
/// What the guest says of its memory.
void append_guest_statistics(MachineStatistics& statistics, const virtio::MemoryStatistics& guest);

}  // namespace minivm

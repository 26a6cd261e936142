#include "vmm/cpuid.h"

#include <cpuid.h>

#include <algorithm>
#include <bit>

namespace minivm {
namespace {

constexpr std::uint32_t leaf_features = 0x1;
constexpr std::uint32_t leaf_cache = 0x4;
constexpr std::uint32_t leaf_topology = 0xB;
constexpr std::uint32_t leaf_tsc = 0x15;
constexpr std::uint32_t leaf_topology_v2 = 0x1F;
constexpr std::uint32_t leaf_hypervisor = 0x4000'0000;
constexpr std::uint32_t leaf_hypervisor_timing = 0x4000'0010;
constexpr std::uint32_t leaf_amd_sizes = 0x8000'0008;
constexpr std::uint32_t leaf_amd_cache = 0x8000'001D;
constexpr std::uint32_t leaf_amd_topology = 0x8000'001E;

constexpr std::uint32_t feature_tsc_deadline = 1U << 24;  // leaf 1, ECX
constexpr std::uint32_t feature_hypervisor = 1U << 31;    // leaf 1, ECX
constexpr std::uint32_t feature_htt = 1U << 28;           // leaf 1, EDX: the count of logical processors is valid
constexpr std::uint32_t clflush_line = 8;                 // leaf 1, EBX[15:8], in units of 8 bytes

// KVM's local APIC timer counts nanoseconds (APIC_BUS_CYCLE_NS is 1).
constexpr std::uint32_t apic_khz = 1'000'000;
// The nominal crystal that leaf 15H multiplies up; any value does that the local APIC timer may be derived from.
constexpr std::uint32_t crystal_hz = 1'000'000'000;

kvm_cpuid_entry2 entry(std::uint32_t function, std::uint32_t index = 0) {
  kvm_cpuid_entry2 made{};
  made.function = function;
  made.index = index;
  return made;
}

/// Bits of an APIC ID that number the cores of a package.
std::uint32_t core_bits(std::uint32_t cpus) { return static_cast<std::uint32_t>(std::bit_width(cpus - 1)); }

/// Leaf 0BH: level 0 is one thread a core, level 1 all cores of the package (SDM 2A, table 3-8).
void append_topology(std::vector<kvm_cpuid_entry2>& entries, std::uint32_t cpus) {
  constexpr std::uint32_t smt = 1;
  constexpr std::uint32_t core = 2;
  for (std::uint32_t level = 0; level < 3; ++level) {
    kvm_cpuid_entry2 topology = entry(leaf_topology, level);
    topology.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    topology.ecx = level;
    if (level == 0) {
      topology.ebx = 1;
      topology.ecx |= smt << 8;
    } else if (level == 1) {
      topology.eax = core_bits(cpus);
      topology.ebx = cpus;
      topology.ecx |= core << 8;
    }
    entries.push_back(topology);
  }
}

void patch(kvm_cpuid_entry2& leaf, std::uint32_t cpus, bool tsc_deadline) {
  switch (leaf.function) {
    case leaf_features:
      leaf.ebx = (leaf.ebx & 0xFF) | clflush_line << 8 | std::min(cpus, 255U) << 16;
      leaf.ecx |= feature_hypervisor;
      leaf.ecx = tsc_deadline ? leaf.ecx | feature_tsc_deadline : leaf.ecx & ~feature_tsc_deadline;
      leaf.edx = cpus > 1 ? leaf.edx | feature_htt : leaf.edx & ~feature_htt;
      break;
    case leaf_cache: {
      // EAX[31:26] cores of the package less one, EAX[25:14] logical CPUs sharing the cache less one: the last level
      // is everybody's, the others are a core's own.
      const std::uint32_t cores = std::min((1U << core_bits(cpus)) - 1, 63U);
      const std::uint32_t level = leaf.eax >> 5 & 7;
      leaf.eax = (leaf.eax & 0x3FFF) | (level >= 3 ? cores << 14 : 0) | cores << 26;
      break;
    }
    case leaf_amd_sizes:
      // ECX[7:0] cores less one, ECX[15:12] APIC ID bits that number them.
      leaf.ecx = (leaf.ecx & ~0xF0FFU) | std::min(cpus - 1, 255U) | core_bits(cpus) << 12;
      break;
    case leaf_amd_cache: {
      const std::uint32_t level = leaf.eax >> 5 & 7;
      leaf.eax = (leaf.eax & 0x3FFF) | (level >= 3 ? std::min(cpus - 1, 0xFFFU) << 14 : 0);
      break;
    }
    case leaf_hypervisor:
      leaf.eax = std::max(leaf.eax, leaf_hypervisor_timing);
      break;
    default:
      break;
  }
}

}  // namespace

std::vector<kvm_cpuid_entry2> make_cpuid(std::vector<kvm_cpuid_entry2> supported, std::uint32_t cpus,
                                         std::uint32_t tsc_khz, bool tsc_deadline) {
  std::erase_if(supported, [](const kvm_cpuid_entry2& leaf) {
    return leaf.function == leaf_topology || leaf.function == leaf_topology_v2 || leaf.function == leaf_tsc ||
           leaf.function == leaf_hypervisor_timing;
  });
  for (kvm_cpuid_entry2& leaf : supported) patch(leaf, cpus, tsc_deadline);
  append_topology(supported, cpus);
  if (tsc_khz == 0) return supported;

  // TSC Hz = crystal * EBX / EAX (SDM 2A, CPUID leaf 15H): in steps of kHz no number overflows 32 bits.
  kvm_cpuid_entry2 tsc = entry(leaf_tsc);
  tsc.eax = crystal_hz / 1000;
  tsc.ebx = tsc_khz;
  tsc.ecx = crystal_hz;
  supported.push_back(tsc);
  kvm_cpuid_entry2 timing = entry(leaf_hypervisor_timing);
  timing.eax = tsc_khz;
  timing.ebx = apic_khz;
  supported.push_back(timing);
  return supported;
}

void set_apic_id(std::span<kvm_cpuid_entry2> entries, std::uint32_t apic_id) noexcept {
  for (kvm_cpuid_entry2& leaf : entries) {
    switch (leaf.function) {
      case leaf_features:
        leaf.ebx = (leaf.ebx & 0x00FF'FFFF) | apic_id << 24;
        break;
      case leaf_topology:
        leaf.edx = apic_id;
        break;
      case leaf_amd_topology:
        leaf.eax = apic_id;
        leaf.ebx = apic_id & 0xFF;  // core ID, one thread a core
        leaf.ecx = 0;               // one node
        break;
      default:
        break;
    }
  }
}

bool has_rdrand() noexcept {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_RDRND) != 0;
}

}  // namespace minivm

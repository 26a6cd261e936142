#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>
#include <vector>

namespace minivm {

/// The CPUID leaves that are the same on every vCPU: the host's, with a topology of `cpus` single-threaded cores in
/// one package, the TSC-deadline timer, and the TSC and local APIC timer frequencies, so that the guest calibrates
/// nothing. `tsc_khz` 0 leaves the frequency leaves out.
std::vector<kvm_cpuid_entry2> make_cpuid(std::vector<kvm_cpuid_entry2> supported, std::uint32_t cpus,
                                         std::uint32_t tsc_khz, bool tsc_deadline);

/// Writes the APIC ID into the leaves that show it (SDM 2A, CPUID; APM 3, appendix E).
void set_apic_id(std::span<kvm_cpuid_entry2> entries, std::uint32_t apic_id) noexcept;

/// Whether this CPU, and so a guest's, makes random numbers (SDM 2A, CPUID.01H:ECX[30]).
bool has_rdrand() noexcept;

}  // namespace minivm

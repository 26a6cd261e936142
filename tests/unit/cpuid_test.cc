#include "vmm/cpuid.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

namespace minivm {
namespace {

using Entries = std::vector<kvm_cpuid_entry2>;

kvm_cpuid_entry2 leaf(std::uint32_t function, std::uint32_t index = 0) {
  kvm_cpuid_entry2 entry{};
  entry.function = function;
  entry.index = index;
  return entry;
}

/// A host of 16 cores with 2 threads each, of both makers' leaves.
Entries host() {
  Entries entries;
  auto features = leaf(0x1);
  features.ebx = 0x2A'20'08'07;  // APIC ID 2AH, 32 logical processors, 64-byte lines, brand 7
  features.edx = 1U << 28 | 1U << 0;
  entries.push_back(features);
  for (std::uint32_t index = 0; index < 4; ++index) {
    auto cache = leaf(0x4, index);
    const std::uint32_t level = index == 0 ? 1 : index;  // data and instructions, then L2 and L3
    cache.eax = 0x7C00'0000 | (level == 3 ? 31U : 1U) << 14 | level << 5 | 1;
    cache.ebx = 0x1C0'003F;
    entries.push_back(cache);
  }
  for (const std::uint32_t function : {0xBU, 0x1FU}) {
    for (std::uint32_t index = 0; index < 3; ++index) entries.push_back(leaf(function, index));
  }
  entries.push_back(leaf(0x15));
  auto hypervisor = leaf(0x4000'0000);
  hypervisor.eax = 0x4000'0001;
  hypervisor.ebx = 0x4B4D'564B;
  entries.push_back(hypervisor);
  auto sizes = leaf(0x8000'0008);
  sizes.eax = 0x3030;
  sizes.ecx = 0x501F;
  entries.push_back(sizes);
  auto amd_cache = leaf(0x8000'001D, 3);
  amd_cache.eax = 31U << 14 | 3U << 5 | 3;
  entries.push_back(amd_cache);
  entries.push_back(leaf(0x8000'001E));
  return entries;
}

Entries all(const Entries& entries, std::uint32_t function) {
  Entries found;
  std::ranges::copy_if(entries, std::back_inserter(found),
                       [&](const auto& entry) { return entry.function == function; });
  return found;
}

kvm_cpuid_entry2 only(const Entries& entries, std::uint32_t function) {
  const Entries found = all(entries, function);
  REQUIRE(found.size() == 1);
  return found.front();
}

std::uint32_t bits(std::uint32_t value, unsigned high, unsigned low) {
  return value >> low & ((1U << (high - low + 1)) - 1);
}

constexpr std::uint32_t tsc_khz = 2'700'123;

TEST_CASE("Leaf 0BH shows one package of single-threaded cores") {
  const auto cpus = GENERATE(1U, 2U, 3U, 32U, 64U);
  CAPTURE(cpus);
  const Entries levels = all(make_cpuid(host(), cpus, tsc_khz, true), 0xB);
  REQUIRE(levels.size() == 3);
  for (std::uint32_t level = 0; level < 3; ++level) {
    CHECK(levels[level].index == level);
    CHECK((levels[level].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0);
    CHECK(bits(levels[level].ecx, 7, 0) == level);
  }
  CHECK(bits(levels[0].ecx, 15, 8) == 1);  // SMT
  CHECK(levels[0].eax == 0);
  CHECK(levels[0].ebx == 1);
  CHECK(bits(levels[1].ecx, 15, 8) == 2);  // core
  CHECK(levels[1].ebx == cpus);
  CHECK(bits(levels[2].ecx, 15, 8) == 0);  // no more levels
  CHECK(levels[2].ebx == 0);
  // Every APIC ID of the package gives package 0, and no bit is wasted.
  CHECK((cpus - 1) >> levels[1].eax == 0);
  if (cpus > 1) CHECK((cpus - 1) >> (levels[1].eax - 1) != 0);
}

TEST_CASE("What the host's other leaves say of its topology is gone") {
  const Entries entries = make_cpuid(host(), 2, tsc_khz, true);
  CHECK(all(entries, 0x1F).empty());
  CHECK(all(entries, 0x15).size() == 1);
}

TEST_CASE("Leaf 1 counts the logical processors, and says so when there is more than one") {
  const auto cpus = GENERATE(1U, 2U, 3U, 32U);
  CAPTURE(cpus);
  const auto features = only(make_cpuid(host(), cpus, 0, true), 0x1);
  CHECK(bits(features.ebx, 23, 16) == cpus);
  CHECK(bits(features.ebx, 15, 8) == 8);
  CHECK(bits(features.ebx, 7, 0) == 7);
  CHECK((features.edx >> 28 & 1) == (cpus > 1 ? 1U : 0U));
  CHECK((features.edx & 1) == 1);
}

TEST_CASE("Leaf 1 tells of a hypervisor, and of the TSC deadline timer when KVM has it") {
  CHECK((only(make_cpuid(host(), 1, 0, true), 0x1).ecx & (1U << 31 | 1U << 24)) == (1U << 31 | 1U << 24));
  Entries with_timer = host();
  with_timer.front().ecx = 1U << 24;
  CHECK((only(make_cpuid(with_timer, 1, 0, false), 0x1).ecx & (1U << 31 | 1U << 24)) == 1U << 31);
}

TEST_CASE("Caches are a core's own but for the last level, which all share") {
  const auto cpus = GENERATE(1U, 2U, 3U, 32U);
  CAPTURE(cpus);
  const Entries caches = all(make_cpuid(host(), cpus, 0, true), 0x4);
  REQUIRE(caches.size() == 4);
  for (const auto& cache : caches) {
    const bool last = bits(cache.eax, 7, 5) == 3;
    CHECK(bits(cache.eax, 31, 26) + 1 >= cpus);
    CHECK((last ? bits(cache.eax, 25, 14) + 1 >= cpus : bits(cache.eax, 25, 14) == 0));
    CHECK(cache.ebx == 0x1C0'003F);
  }
  const auto amd = only(make_cpuid(host(), cpus, 0, true), 0x8000'001D);
  CHECK(bits(amd.eax, 25, 14) == cpus - 1);
}

TEST_CASE("Leaf 80000008H counts the cores and keeps the address sizes") {
  const auto cpus = GENERATE(1U, 2U, 3U, 32U);
  CAPTURE(cpus);
  const auto sizes = only(make_cpuid(host(), cpus, 0, true), 0x8000'0008);
  CHECK(bits(sizes.ecx, 7, 0) == cpus - 1);
  CHECK((cpus - 1) >> bits(sizes.ecx, 15, 12) == 0);
  CHECK(sizes.eax == 0x3030);
}

TEST_CASE("The TSC's frequency can be read in both ways") {
  const Entries entries = make_cpuid(host(), 1, tsc_khz, true);
  const auto tsc = only(entries, 0x15);
  REQUIRE(tsc.eax != 0);
  CHECK(std::uint64_t{tsc.ecx} * tsc.ebx / tsc.eax == std::uint64_t{tsc_khz} * 1000);
  const auto timing = only(entries, 0x4000'0010);
  CHECK(timing.eax == tsc_khz);
  CHECK(timing.ebx == 1'000'000);  // KVM's local APIC timer: 1 GHz
  CHECK(only(entries, 0x4000'0000).eax == 0x4000'0010);
  CHECK(only(entries, 0x4000'0000).ebx == 0x4B4D'564B);
}

TEST_CASE("An unknown frequency is left out, whatever the host says of its own") {
  const Entries entries = make_cpuid(host(), 1, 0, true);
  CHECK(all(entries, 0x15).empty());
  CHECK(all(entries, 0x4000'0010).empty());
}

TEST_CASE("Each vCPU shows its own APIC ID in every leaf that has one") {
  Entries entries = make_cpuid(host(), 3, tsc_khz, true);
  for (std::uint32_t id = 0; id < 3; ++id) {
    set_apic_id(entries, id);
    const auto features = only(entries, 0x1);
    CHECK(bits(features.ebx, 31, 24) == id);
    CHECK(bits(features.ebx, 23, 16) == 3);
    for (const auto& level : all(entries, 0xB)) CHECK(level.edx == id);
    CHECK(only(entries, 0x8000'001E).eax == id);
    CHECK(only(entries, 0x8000'001E).ebx == id);
  }
}

}  // namespace
}  // namespace minivm

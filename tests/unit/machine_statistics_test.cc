#include "vmm/machine_statistics.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <optional>
#include <vector>

#include "protocol/machine_socket.h"

namespace minivm {
namespace {

std::optional<std::uint64_t> find(const MachineStatistics& statistics, std::string_view name) {
  const auto found = std::ranges::find(statistics, name, &MachineStatistics::value_type::first);
  return found == statistics.end() ? std::nullopt : std::optional(found->second);
}

TEST_CASE("A process has memory and has run") {
  const std::vector<std::byte> memory(8 << 20, std::byte{1});
  MachineStatistics statistics;
  append_process_statistics(statistics);
  CHECK(find(statistics, "host.resident") > memory.size());
  CHECK(*find(statistics, "host.cpu_user_us") + *find(statistics, "host.cpu_system_us") > 0);
}

TEST_CASE("What the guest does not say is not made up") {
  virtio::MemoryStatistics guest;
  guest[static_cast<std::size_t>(virtio::balloon::Tag::free_memory)] = 5;
  guest[static_cast<std::size_t>(virtio::balloon::Tag::hugetlb_failures)] = 6;
  MachineStatistics statistics;
  append_guest_statistics(statistics, guest);
  CHECK(statistics == MachineStatistics{{"guest.free", 5}, {"guest.hugetlb_failures", 6}});
}

TEST_CASE("Statistics travel whole, and what is cut short or too long does not") {
  const MachineStatistics sent{{"one", 1}, {"", ~std::uint64_t{0}}};
  std::vector<std::byte> buffer(4096);
  protocol::Writer writer(buffer);
  protocol::Stats{sent}.encode(writer);
  REQUIRE(writer.ok());
  const auto decode = [](std::span<const std::byte> bytes) {
    std::optional<MachineStatistics> received(std::in_place);
    const bool whole = protocol::Stats::decode(
        protocol::Reader(bytes),
        [&](std::string_view name, std::uint64_t value) { received->emplace_back(name, value); });
    return whole ? received : std::nullopt;
  };
  CHECK(decode(writer.written()) == sent);
  for (std::size_t size = 0; size < writer.written().size(); ++size) {
    CHECK_FALSE(decode(writer.written().first(size)));
  }
  protocol::Writer many(buffer);
  many.put(std::uint32_t{protocol::Stats::max_entries + 1});
  CHECK_FALSE(decode(buffer));
}

}  // namespace
}  // namespace minivm

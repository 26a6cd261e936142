#include "devices/virtio/pci_transport.h"

#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <map>
#include <vector>

#include "devices/pci/host.h"
#include "devices/pci/spec.h"
#include "devices/virtio/spec.h"
#include "tests/transport_fixture.h"

using namespace minivm;
using namespace minivm::virtio;
using minivm::test::EchoDevice;
using minivm::test::PciRegisters;
using minivm::test::TransportFixture;
namespace common = minivm::virtio::over_pci::common;
namespace header = minivm::pci::header;

namespace {

struct Fixture : TransportFixture {
  Fixture() : TransportFixture(Kind::pci) { host.add(2, transport); }

  PciRegisters& pci_registers = static_cast<PciRegisters&>(*registers);
  PciTransport& transport = pci_registers.transport;
  pci::Host host;

  static constexpr std::uint64_t function = pci::function_config_size * pci::functions_per_device * 2;

  template <typename T>
  T config(std::uint64_t offset) {
    T value{};
    host.read(function + offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  template <typename T>
  void set_config(std::uint64_t offset, T value) {
    host.write(function + offset, std::as_bytes(std::span(&value, 1)));
  }
  /// Offsets of the capabilities, in the order of the list.
  std::vector<std::uint8_t> capabilities() {
    std::vector<std::uint8_t> found;
    for (auto at = config<std::uint8_t>(header::capabilities); at != 0; at = config<std::uint8_t>(at + 1U)) {
      found.push_back(at);
      if (found.size() > 48) throw std::logic_error("the list of capabilities has no end");
    }
    return found;
  }
  std::uint8_t find(std::uint8_t id, std::optional<over_pci::Structure> structure = {}) {
    for (const std::uint8_t at : capabilities()) {
      if (config<std::uint8_t>(at) != id) continue;
      if (!structure || config<std::uint8_t>(at + 3U) == static_cast<std::uint8_t>(*structure)) return at;
    }
    return 0;
  }
  std::uint8_t msix_capability() { return find(pci::capability_msix); }
  void enable_msix(std::uint16_t bits = pci::msix::control_enable) {
    set_config<std::uint16_t>(msix_capability() + pci::msix::control_offset, bits);
  }
  void set_vector(std::uint16_t vector, std::uint32_t data) {
    const std::uint64_t entry = PciTransport::table_offset + pci::msix::entry_size * vector;
    pci_registers.out(entry, 4, 0xFEE0'0000);
    pci_registers.out(entry + 8, 4, data);
    pci_registers.out(entry + 12, 4, 0);
  }
  std::uint64_t drained(std::uint16_t vector) {
    std::uint64_t count = 0;
    return ::read(transport.msix().fd(vector), &count, sizeof count) == sizeof count ? count : 0;
  }
  void select_vector(std::uint32_t queue, std::uint32_t vector) {
    out(Register::queue_sel, queue);
    pci_registers.out(common::queue_msix_vector, 2, vector);
  }
  std::uint32_t selected_vector() { return pci_registers.in(common::queue_msix_vector, 2); }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "the function says that it is a modern virtio device") {
  CHECK(config<std::uint16_t>(header::vendor_id) == 0x1AF4);
  CHECK(config<std::uint16_t>(header::device_id) == 0x1040 + 42);
  CHECK(config<std::uint8_t>(header::revision_id) >= 1);
  CHECK(config<std::uint16_t>(header::subsystem_id) >= 0x40);
  CHECK((config<std::uint16_t>(header::status) & pci::status_has_capabilities) != 0);
  CHECK(config<std::uint8_t>(0x0E) == 0);  // one function, no bridge
  CHECK(config<std::uint8_t>(0x3D) == 0);  // no interrupt pin
  CHECK(config<std::uint32_t>(0x100) == 0);
}

TEST_CASE_METHOD(Fixture, "every structure that a driver looks for lies in the BAR, apart from the others") {
  std::map<std::uint32_t, std::uint32_t> ranges;
  for (const std::uint8_t at : capabilities()) {
    if (config<std::uint8_t>(at) != pci::capability_vendor) continue;
    if (config<std::uint8_t>(at + 3U) == static_cast<std::uint8_t>(over_pci::Structure::pci_cfg)) continue;
    CHECK(config<std::uint8_t>(at + 2U) >= 16);
    CHECK(config<std::uint8_t>(at + 4U) == 0);
    ranges[config<std::uint32_t>(at + 8U)] = config<std::uint32_t>(at + 12U);
  }
  const std::uint8_t msix = msix_capability();
  REQUIRE(msix != 0);
  CHECK((config<std::uint16_t>(msix + 2U) & 0x7FFU) == 2);  // three vectors: the size is told less one
  ranges[config<std::uint32_t>(msix + 4U)] = 3 * pci::msix::entry_size;
  ranges[config<std::uint32_t>(msix + 8U)] = 8;
  CHECK(ranges.size() == 6);
  std::uint32_t end = 0;
  for (const auto& [offset, size] : ranges) {
    CHECK(offset >= end);
    end = offset + size;
  }
  CHECK(end <= PciTransport::bar_size);
  for (const auto structure : {over_pci::Structure::common, over_pci::Structure::notify, over_pci::Structure::isr,
                               over_pci::Structure::device, over_pci::Structure::pci_cfg}) {
    CHECK(find(pci::capability_vendor, structure) != 0);
  }
}

TEST_CASE_METHOD(Fixture, "the BAR tells its size, and what else is read-only stays as it is") {
  CHECK(config<std::uint32_t>(header::base_address) == PciRegisters::bar);
  set_config<std::uint32_t>(header::base_address, 0xFFFF'FFFF);
  CHECK(config<std::uint32_t>(header::base_address) == ~(PciTransport::bar_size - 1));
  set_config<std::uint32_t>(header::base_address, PciRegisters::bar);
  for (std::uint64_t bar = header::base_address + 4U; bar < 0x28; bar += 4) {
    set_config<std::uint32_t>(bar, 0xFFFF'FFFF);
    CHECK(config<std::uint32_t>(bar) == 0);
  }
  const auto before = capabilities();
  for (std::uint64_t offset = 0; offset < pci::function_config_size; ++offset) {
    set_config<std::uint8_t>(offset, 0xFF);
    set_config<std::uint8_t>(offset, 0);
  }
  CHECK(capabilities() == before);
  CHECK(config<std::uint16_t>(header::vendor_id) == 0x1AF4);
  CHECK((config<std::uint16_t>(msix_capability() + 2U) & 0x7FFU) == 2);
}

TEST_CASE_METHOD(Fixture, "there is nothing on the bus but the functions that were added") {
  std::uint32_t value = 0;
  const auto bytes = std::as_writable_bytes(std::span(&value, 1));
  for (const std::uint64_t offset : {std::uint64_t{0}, function - 4, function + 0x1000, pci::bus_config_size - 4,
                                     pci::bus_config_size, ~std::uint64_t{0} - 8}) {
    value = 0;
    host.read(offset, bytes);
    CHECK(value == 0xFFFF'FFFF);
    host.write(offset, bytes);
  }
  CHECK_THROWS(host.add(32, transport));
}

TEST_CASE_METHOD(Fixture, "each queue and the configuration have a vector of their own") {
  enable_msix();
  for (std::uint16_t vector = 0; vector < 3; ++vector) set_vector(vector, 0x30U + vector);
  REQUIRE(pci_registers.connected.size() == 3);
  CHECK(pci_registers.connected[2].second == pci::MsiMessage{0xFEE0'0000, 0x32});
  negotiate();
  select_vector(0, 1);
  select_vector(1, 2);
  pci_registers.out(common::config_msix_vector, 2, 0);
  set_up_queue(0, driver.config());
  out(Register::status, 15);
  driver.writable(4).offer();
  registers->notify(0);
  settle();
  CHECK(driver.take_used());
  CHECK(drained(1) == 1);
  CHECK(drained(0) == 0);
  CHECK(drained(2) == 0);
  const std::array<std::uint16_t, 2> both{0, 1};
  transport.signal_used(both);
  transport.signal_configuration();
  CHECK(drained(0) == 1);
  CHECK(drained(1) == 1);
  CHECK(drained(2) == 1);
}

TEST_CASE_METHOD(Fixture,
                 "vectors that are not there, and those of queues that are not there, read back as none (rule 15)") {
  CHECK(selected_vector() == over_pci::no_vector);
  for (const std::uint32_t vector : {3U, 4U, 0x800U, 0xFFFEU, 0xFFFFU}) {
    select_vector(0, vector);
    CHECK(selected_vector() == over_pci::no_vector);
    pci_registers.out(common::config_msix_vector, 2, vector);
    CHECK(pci_registers.in(common::config_msix_vector, 2) == over_pci::no_vector);
  }
  for (const std::uint32_t queue : {2U, 3U, 0x7FFFU, 0xFFFFU}) {
    select_vector(queue, 0);
    CHECK(selected_vector() == over_pci::no_vector);
  }
  select_vector(1, 2);
  CHECK(selected_vector() == 2);
  pci_registers.out(common::queue_msix_vector, 4, 1);  // of the wrong size
  CHECK(selected_vector() == 2);
}

TEST_CASE_METHOD(Fixture, "a reset of the device forgets vectors and causes (rule 18)") {
  select_vector(0, 1);
  pci_registers.out(common::config_msix_vector, 2, 2);
  transport.signal_used(0);
  out(Register::status, 0);
  CHECK(registers->take_causes() == 0);
  CHECK(selected_vector() == over_pci::no_vector);
  CHECK(pci_registers.in(common::config_msix_vector, 2) == over_pci::no_vector);
}

TEST_CASE_METHOD(Fixture, "without MSI-X the causes are there to be polled, and reading takes them") {
  transport.signal_used(0);
  transport.signal_configuration();
  CHECK(registers->take_causes() == 3);
  CHECK(registers->take_causes() == 0);
}

TEST_CASE_METHOD(Fixture, "the common configuration is read in the size of its fields alone") {
  CHECK(in(Register::queue_count) == 2);
  CHECK(pci_registers.in(common::num_queues, 4) == 0);
  CHECK(pci_registers.in(common::device_features + 1, 1) == 0);
  out(Register::queue_sel, 1);
  CHECK(pci_registers.in(common::queue_notify_off, 2) == 1);
  std::array<std::byte, 8> wide{};
  transport.read(common::queue_desc, wide);
  transport.write(common::queue_desc, wide);
  pci_registers.out(common::status, 4, 1);
  CHECK(in(Register::status) == 0);
}

TEST_CASE_METHOD(Fixture, "the BAR is reached through configuration space too, and no further (4.1.4.9)") {
  const std::uint64_t window = find(pci::capability_vendor, over_pci::Structure::pci_cfg);
  const auto aim = [&](std::uint8_t bar, std::uint32_t offset, std::uint32_t size) {
    set_config(window + over_pci::bar_field, bar);
    set_config(window + over_pci::offset_field, offset);
    set_config(window + over_pci::size_field, size);
  };
  aim(0, common::status, 1);
  set_config<std::uint8_t>(window + over_pci::data_field, 1);
  CHECK(in(Register::status) == 1);
  CHECK(config<std::uint8_t>(window + over_pci::data_field) == 1);
  aim(0, common::num_queues, 2);
  CHECK(config<std::uint16_t>(window + over_pci::data_field) == 2);
  CHECK(config<std::uint8_t>(window + over_pci::data_field) == 0);  // of another size than was said
  const std::array<std::array<std::uint32_t, 3>, 8> bad{{{1, 0x12, 2},
                                                         {255, 0x12, 2},
                                                         {0, 0x11, 2},
                                                         {0, 0x12, 3},
                                                         {0, 0x12, 0},
                                                         {0, 0x12, 0xFFFF'FFFF},
                                                         {0, 0x1000, 2},
                                                         {0, 0xFFFF'FFFE, 2}}};
  for (const auto& [bar, offset, size] : bad) {
    aim(static_cast<std::uint8_t>(bar), offset, size);
    CHECK(config<std::uint16_t>(window + over_pci::data_field) == 0);
    set_config<std::uint16_t>(window + over_pci::data_field, 0xFFFF);
  }
  aim(0, PciTransport::notify_address(0), 4);
  set_config<std::uint32_t>(window + over_pci::data_field, 0);
  settle();
}

TEST_CASE_METHOD(Fixture, "every place of the BAR takes every size of access") {
  std::array<std::byte, 8> bytes{};
  for (const std::byte fill : {std::byte{0}, std::byte{1}, std::byte{0xFF}}) {
    for (std::uint64_t offset = 0; offset < PciTransport::bar_size; ++offset) {
      for (std::size_t size = 1; size <= 8 && size <= PciTransport::bar_size - offset; size *= 2) {
        bytes.fill(fill);
        transport.write(offset, std::span(bytes).first(size));
        transport.read(offset, std::span(bytes).first(size));
      }
    }
  }
  out(Register::status, 0);
  start();
  CHECK(in(Register::status) == 15);
}

TEST_CASE("A device with more queues than the table has room for is refused") {
  class Wide final : public VirtioDevice {
   public:
    std::uint32_t type() const noexcept override { return 1; }
    std::uint64_t features() const noexcept override { return feature::version_1; }
    std::span<const std::uint16_t> queue_sizes() const noexcept override { return sizes_; }
    void read_config(std::uint64_t, std::span<std::byte>) const noexcept override {}
    void activate(Activation) noexcept override {}
    void on_notify(std::uint16_t) noexcept override {}
    void reset() noexcept override {}

   private:
    std::array<std::uint16_t, PciTransport::max_queues + 1> sizes_{};
  };
  const GuestMemory memory(1 << 20);
  EventLoop loop;
  Wide device;
  CHECK_THROWS_WITH(PciTransport(device, loop, memory, 0xD100'0000, [](std::uint16_t, const pci::MsiMessage&) {}),
                    Catch::Contains("112 queues, more than 111"));
}

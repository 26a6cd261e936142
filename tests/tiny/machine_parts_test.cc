#include <array>
#include <catch2/catch.hpp>
#include <chrono>
#include <string>
#include <system_error>
#include <thread>

#include "tests/temporary_file.h"
#include "tests/tiny_guest.h"
#include "vmm/cpuid.h"
#include "vmm/kvm.h"
#include "vmm/msi_routes.h"
#include "vmm/speed_probe.h"

namespace minivm {
namespace {

using test::Code;
using test::RecordingDevice;
using test::TinyGuest;

constexpr auto mmio = static_cast<std::uint32_t>(TinyGuest::mmio_address);
constexpr auto data = static_cast<std::uint32_t>(TinyGuest::data_address);

TEST_CASE("A host without KVM is told by the name of the device") {
  CHECK_THROWS_WITH(Kvm("/dev/kvm-that-is-not-there"),
                    Catch::Contains("/dev/kvm-that-is-not-there") && Catch::Contains("No such file"));
}

TEST_CASE("A file that is no KVM device is told by its name") {
  const test::TemporaryFile file;
  CHECK_THROWS_WITH(Kvm(file.path()), file.path() + ": not a KVM device");
}

TEST_CASE("This host's KVM says what it can do") {
  if (!test::host_has_kvm()) return;
  const Kvm kvm;
  CHECK(kvm.check_extension(KVM_CAP_USER_MEMORY) > 0);
  CHECK(kvm.check_extension(0xFFFF'FFFF) == 0);
  CHECK(kvm.run_mapping_size() >= sizeof(kvm_run));
  CHECK_FALSE(kvm.supported_cpuid().empty());
}

TEST_CASE("The speed of this host's guests can be measured") {
  if (!test::host_has_kvm()) return;
  CHECK(probe_guest_speed(Kvm()).instructions_per_second > 0);
}

/// Code that puts EAX, EBX, ECX and EDX of a CPUID leaf at `where`.
void append_cpuid(Code& code, std::uint32_t leaf, std::uint32_t index, std::uint32_t where) {
  code.op({0xB8}, leaf)         // mov eax, leaf
      .op({0xB9}, index)        // mov ecx, index
      .op({0x0F, 0xA2})         // cpuid
      .op({0xBF}, where)        // mov edi, where
      .op({0x89, 0x07})         // mov [rdi], eax
      .op({0x89, 0x5F, 0x04})   // mov [rdi+4], ebx
      .op({0x89, 0x4F, 0x08})   // mov [rdi+8], ecx
      .op({0x89, 0x57, 0x0C});  // mov [rdi+12], edx
}

TEST_CASE("A guest's own CPUID shows its topology and its APIC ID") {
  if (!test::host_has_kvm()) return;
  constexpr std::uint32_t cpus = 3;
  TinyGuest guest;
  Code code;
  append_cpuid(code, 0x1, 0, data);
  append_cpuid(code, 0xB, 1, data + 16);
  append_cpuid(code, 0x4000'0010, 0, data + 32);
  Vcpu& vcpu = guest.add_vcpu(code.end());
  auto entries = make_cpuid(guest.kvm.supported_cpuid(), cpus, 2'000'000, true);
  set_apic_id(entries, 0);
  vcpu.set_cpuid(entries);
  guest.start();
  guest.wait_for_end();
  using Leaf = std::array<std::uint32_t, 4>;
  const auto features = guest.memory.read<Leaf>(Gpa{data}).value();
  CHECK(features[1] >> 24 == 0);
  CHECK((features[1] >> 16 & 0xFF) == cpus);
  CHECK((features[2] >> 31) == 1);
  const auto cores = guest.memory.read<Leaf>(Gpa{data + 16}).value();
  CHECK(cores == Leaf{2, cpus, 2U << 8 | 1, 0});
  CHECK(guest.memory.read<Leaf>(Gpa{data + 32}).value() == Leaf{2'000'000, 1'000'000, 0, 0});
}

TEST_CASE("KVM takes the CPUID of the largest machine, and the boot MSRs") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest(TinyGuest::Interrupts::in_kernel);
  for (std::uint32_t id = 0; id < 4; ++id) {
    Vcpu& vcpu = guest.add_vcpu(Code().end());
    auto entries = make_cpuid(guest.kvm.supported_cpuid(), 64, vcpu.tsc_khz(), true);
    set_apic_id(entries, id);
    CHECK_NOTHROW(vcpu.set_cpuid(entries));
    CHECK_NOTHROW(vcpu.set_boot_msrs());
  }
}

TEST_CASE("KVM counts what makes a vCPU leave the guest, and tells while the vCPU is in it") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest;
  RecordingDevice device;
  guest.port_io.map(0x10, 1, device);
  const Vcpu& vcpu = guest.add_vcpu(Code().op({0xE6, 0x10}).op({0xEB, 0xFE}));  // out 0x10, al; jmp itself
  guest.start();
  const auto end = std::chrono::steady_clock::now() + TinyGuest::patience;
  while (device.writes().empty() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  REQUIRE(device.writes().size() == 1);
  const std::array<std::string_view, 2> names{"no_such_statistic", "exits"};
  const auto statistics = vcpu.statistics(names);
  guest.stop();
  if (guest.kvm.check_extension(KVM_CAP_BINARY_STATS_FD) == 0) {
    CHECK(statistics.empty());
    return;
  }
  REQUIRE(statistics.size() == 1);
  CHECK(statistics[0].first == "exits");
  CHECK(statistics[0].second > 0);
}

TEST_CASE("An ioeventfd without a value takes every write to its address, of any size") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest;
  RecordingDevice device;
  guest.mmio.map(mmio, 0x100, device);
  const EventFd event;
  guest.vm.bind_ioeventfd(event.fd(), mmio + 0x50);
  guest.add_vcpu(Code()
                     .op({0xBB}, mmio)                                     // mov ebx, mmio
                     .op({0xC7, 0x43, 0x50}, 1U)                           // mov dword [rbx+0x50], 1
                     .op({0x66, 0xC7, 0x43, 0x50}, std::uint16_t{0xFFFF})  // mov word [rbx+0x50], 0xFFFF
                     .op({0xC6, 0x43, 0x50, 0x07})                         // mov byte [rbx+0x50], 7
                     .op({0xC7, 0x43, 0x54}, 1U)                           // mov dword [rbx+0x54], 1
                     .end());
  guest.start();
  guest.wait_for_end();
  CHECK(event.drain() == 3);
  CHECK(device.writes().size() == 1);
}

TEST_CASE("An ioeventfd takes its own value, and no other, away from the bus") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest;
  RecordingDevice device;
  guest.mmio.map(mmio, 0x100, device);
  const EventFd first;
  const EventFd second;
  guest.vm.bind_ioeventfd(first.fd(), mmio + 0x50, 1);
  guest.vm.bind_ioeventfd(second.fd(), mmio + 0x50, 2);
  guest.add_vcpu(Code()
                     .op({0xBB}, mmio)            // mov ebx, mmio
                     .op({0xC7, 0x43, 0x50}, 1U)  // mov dword [rbx+0x50], 1
                     .op({0xC7, 0x43, 0x50}, 2U)  // mov dword [rbx+0x50], 2
                     .op({0xC7, 0x43, 0x50}, 2U)  // mov dword [rbx+0x50], 2
                     .op({0xC7, 0x43, 0x50}, 3U)  // mov dword [rbx+0x50], 3
                     .op({0xC7, 0x43, 0x54}, 1U)  // mov dword [rbx+0x54], 1
                     .end());
  guest.start();
  guest.wait_for_end();
  CHECK(first.drain() == 1);
  CHECK(second.drain() == 2);
  const auto writes = device.writes();
  REQUIRE(writes.size() == 2);
  CHECK(writes[0].offset == 0x50);
  CHECK(writes[0].data.front() == std::byte{3});
  CHECK(writes[1].offset == 0x54);
}

/// Code that has the PIC deliver `gsi` of the first eight as vector 0x20 + `gsi`, and nothing else.
Code with_pic(std::uint8_t gsi) {
  Code code;
  const auto out = [&](std::uint8_t port, std::uint8_t value) { code.op({0xB0, value}).op({0xE6, port}); };
  out(0x20, 0x11);  // 8259A data sheet: ICW1, edge-triggered, ICW4 follows
  out(0x21, 0x20);  // ICW2: vectors from 0x20
  out(0x21, 0x04);  // ICW3: the second PIC is at input 2
  out(0x21, 0x01);  // ICW4: 8086 mode
  out(0x21, static_cast<std::uint8_t>(~(1U << gsi)));
  return code;
}

/// Raises an interrupt line when the guest asks for it.
struct Doorbell final : BusDevice {
  void read(std::uint64_t, std::span<std::byte>) noexcept override {}
  void write(std::uint64_t, std::span<const std::byte>) noexcept override { line.signal(); }
  EventFd line;
};

/// Has interrupts of `vector` end the guest, once it has loaded the IDT whose register image is at data + 0x1000.
void end_on_interrupt(TinyGuest& guest, std::uint8_t vector) {
  constexpr std::uint64_t idt = TinyGuest::data_address;
  constexpr std::uint64_t handler = TinyGuest::code_address + 0x800;
  // SDM 3A, 6.14.1: an interrupt gate at ring 0 in the boot code segment.
  const std::array<std::uint64_t, 2> gate{
      (handler & 0xFFFF) | std::uint64_t{0x10} << 16 | std::uint64_t{0x8E00} << 32 | (handler >> 16 & 0xFFFF) << 48, 0};
  REQUIRE(guest.memory.write(Gpa{idt + std::uint64_t{16} * vector}, gate));
  const std::array<std::uint16_t, 5> idt_register{0xFFF, idt & 0xFFFF, idt >> 16, 0, 0};
  REQUIRE(guest.memory.write(Gpa{data + 0x1000}, idt_register));
  REQUIRE(guest.memory.write_bytes(Gpa{handler}, Code().end().bytes()));
}

TEST_CASE("A signal of an irqfd interrupts a guest that halts") {
  if (!test::host_has_kvm()) return;
  constexpr std::uint8_t gsi = 5;
  TinyGuest guest(TinyGuest::Interrupts::in_kernel);
  end_on_interrupt(guest, 0x20 + gsi);
  Doorbell doorbell;
  guest.port_io.map(0x80, 1, doorbell);
  guest.vm.bind_irqfd(doorbell.line.fd(), gsi);
  guest.add_vcpu(with_pic(gsi)
                     .op({0x0F, 0x01, 0x1C, 0x25}, data + 0x1000)  // lidt [data + 0x1000]
                     .op({0xFB})                                   // sti
                     .op({0xE6, 0x80})                             // out 0x80, al
                     .op({0xF4})                                   // hlt
                     .op({0xEB, 0xFD}));                           // jmp to hlt
  guest.start();
  CHECK_NOTHROW(guest.wait_for_end());
}

TEST_CASE("A signal of an irqfd is the message that its GSI was last connected to") {
  if (!test::host_has_kvm()) return;
  constexpr std::uint8_t vector = 0x41;
  constexpr std::uint32_t local_apic = 0xFEE0'0000;
  TinyGuest guest(TinyGuest::Interrupts::in_kernel);
  end_on_interrupt(guest, vector);
  MsiRoutes routes(guest.vm);
  routes.add_vector();
  const std::uint32_t gsi = routes.add_vector();
  Doorbell doorbell;
  guest.port_io.map(0x80, 1, doorbell);
  guest.vm.bind_irqfd(doorbell.line.fd(), gsi);
  // SDM 3A, 11.11: fixed delivery to the local APIC of ID 0. The first vector has no gate in the IDT.
  routes.connect(gsi, {local_apic, vector + 1});
  routes.connect(gsi, {local_apic, vector});
  guest.add_vcpu(Code()
                     .op({0xBB}, local_apic)                       // mov ebx, local APIC
                     .op({0xC7, 0x83, 0xF0, 0, 0, 0}, 0x1FFU)      // mov dword [rbx+0xF0], on (spurious vector)
                     .op({0x0F, 0x01, 0x1C, 0x25}, data + 0x1000)  // lidt [data + 0x1000]
                     .op({0xFB})                                   // sti
                     .op({0xE6, 0x80})                             // out 0x80, al
                     .op({0xF4})                                   // hlt
                     .op({0xEB, 0xFD}));                           // jmp to hlt
  guest.start();
  CHECK_NOTHROW(guest.wait_for_end());
}

TEST_CASE("Memory beyond the device hole is the guest's too") {
  if (!test::host_has_kvm()) return;
  const Kvm kvm;
  const GuestMemory memory(std::uint64_t{5} << 30);  // pages that nobody touches cost nothing
  Vm vm(kvm);
  REQUIRE(memory.regions().size() == 2);
  CHECK_NOTHROW(vm.set_memory(memory));
}

TEST_CASE("A vCPU that is there already is refused by its number") {
  if (!test::host_has_kvm()) return;
  const Kvm kvm;
  Vm vm(kvm);
  const UniqueFd vcpu = vm.create_vcpu(0);
  CHECK_THROWS_WITH(vm.create_vcpu(0), Catch::Contains("KVM_CREATE_VCPU 0"));
}

TEST_CASE("A line without an interrupt controller, or without an eventfd, is refused by its number") {
  if (!test::host_has_kvm()) return;
  const Kvm kvm;
  Vm vm(kvm);
  const EventFd line;
  CHECK_THROWS_AS(vm.bind_irqfd(line.fd(), 5), std::system_error);  // no interrupt controller at all
  CHECK_THROWS_WITH(vm.bind_irqfd(-1, 5), Catch::Contains("KVM_IRQFD for GSI 5"));
}

}  // namespace
}  // namespace minivm

#include "vmm/vcpu.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <numeric>
#include <string>

#include "tests/tiny_guest.h"

namespace minivm {
namespace {

using test::Code;
using test::RecordingDevice;
using test::TinyGuest;
using Access = RecordingDevice::Access;

Access access(std::uint64_t offset, std::initializer_list<unsigned> bytes) {
  Access made{offset, {}};
  for (const unsigned byte : bytes) made.data.push_back(static_cast<std::byte>(byte));
  return made;
}

constexpr auto mmio = static_cast<std::uint32_t>(TinyGuest::mmio_address);
constexpr auto data = static_cast<std::uint32_t>(TinyGuest::data_address);

TEST_CASE("Port writes of every size reach their device") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest;
  RecordingDevice device;
  guest.port_io.map(0x10, 8, device);
  guest.add_vcpu(Code()
                     .op({0xB8}, 0x4433'2211U)  // mov eax, 0x44332211
                     .op({0xE6, 0x10})          // out 0x10, al
                     .op({0x66, 0xE7, 0x12})    // out 0x12, ax
                     .op({0xE7, 0x14})          // out 0x14, eax
                     .end());
  guest.start();
  guest.wait_for_end();
  CHECK(device.writes() ==
        std::vector{access(0, {0x11}), access(2, {0x11, 0x22}), access(4, {0x11, 0x22, 0x33, 0x44})});
}

TEST_CASE("Port reads of every size give what the device says") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest;
  RecordingDevice device;
  guest.port_io.map(0x10, 8, device);
  guest.add_vcpu(Code()
                     .op({0x31, 0xC0})        // xor eax, eax
                     .op({0xE4, 0x10})        // in al, 0x10
                     .op({0xE7, 0x14})        // out 0x14, eax
                     .op({0x66, 0xE5, 0x10})  // in ax, 0x10
                     .op({0xE7, 0x14})        // out 0x14, eax
                     .op({0xE5, 0x10})        // in eax, 0x10
                     .op({0xE7, 0x14})        // out 0x14, eax
                     .op({0xE5, 0x40})        // in eax, 0x40: nobody is there
                     .op({0xE7, 0x14})        // out 0x14, eax
                     .end());
  guest.start();
  guest.wait_for_end();
  CHECK(device.writes() == std::vector{access(4, {0x11, 0, 0, 0}), access(4, {0x11, 0x12, 0, 0}),
                                       access(4, {0x11, 0x12, 0x13, 0x14}), access(4, {0xFF, 0xFF, 0xFF, 0xFF})});
}

TEST_CASE("MMIO writes of every size reach their device") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest;
  RecordingDevice device;
  guest.mmio.map(mmio, 0x100, device);
  guest.add_vcpu(Code()
                     .op({0x48, 0xB8}, std::uint64_t{0x8877'6655'4433'2211})  // mov rax, 0x8877665544332211
                     .op({0xBB}, mmio)                                        // mov ebx, mmio
                     .op({0x88, 0x03})                                        // mov [rbx], al
                     .op({0x66, 0x89, 0x43, 0x08})                            // mov [rbx+8], ax
                     .op({0x89, 0x43, 0x10})                                  // mov [rbx+16], eax
                     .op({0x48, 0x89, 0x43, 0x18})                            // mov [rbx+24], rax
                     .end());
  guest.start();
  guest.wait_for_end();
  CHECK(device.writes() == std::vector{access(0x00, {0x11}), access(0x08, {0x11, 0x22}),
                                       access(0x10, {0x11, 0x22, 0x33, 0x44}),
                                       access(0x18, {0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88})});
}

TEST_CASE("MMIO reads of every size give what the device says, or ones where nobody is") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest;
  RecordingDevice device;
  guest.mmio.map(mmio, 0x100, device);
  guest.add_vcpu(Code()
                     .op({0xBB}, mmio)              // mov ebx, mmio
                     .op({0xBF}, data)              // mov edi, data
                     .op({0x0F, 0xB6, 0x03})        // movzx eax, byte [rbx]
                     .op({0x48, 0x89, 0x07})        // mov [rdi], rax
                     .op({0x0F, 0xB7, 0x03})        // movzx eax, word [rbx]
                     .op({0x48, 0x89, 0x47, 0x08})  // mov [rdi+8], rax
                     .op({0x8B, 0x03})              // mov eax, [rbx]
                     .op({0x48, 0x89, 0x47, 0x10})  // mov [rdi+16], rax
                     .op({0x48, 0x8B, 0x03})        // mov rax, [rbx]
                     .op({0x48, 0x89, 0x47, 0x18})  // mov [rdi+24], rax
                     .op({0xBB}, mmio + 0x1000)     // mov ebx, mmio + 0x1000
                     .op({0x48, 0x8B, 0x03})        // mov rax, [rbx]
                     .op({0x48, 0x89, 0x47, 0x20})  // mov [rdi+32], rax
                     .end());
  guest.start();
  guest.wait_for_end();
  const auto found = guest.memory.read<std::array<std::uint64_t, 5>>(Gpa{data});
  REQUIRE(found);
  CHECK(*found == std::array<std::uint64_t, 5>{0x11, 0x1211, 0x1413'1211, 0x1817'1615'1413'1211, ~std::uint64_t{0}});
}

TEST_CASE("String output passes every byte, in order") {
  if (!test::host_has_kvm()) return;
  constexpr std::uint32_t count = 5000;  // more than KVM hands over in one exit
  TinyGuest guest;
  RecordingDevice device;
  guest.port_io.map(0x10, 1, device);
  std::vector<std::byte> sent(count);
  for (std::size_t i = 0; i < count; ++i) sent[i] = static_cast<std::byte>(i * 7 + i / 256);
  REQUIRE(guest.memory.write_bytes(Gpa{data}, sent));
  guest.add_vcpu(Code()
                     .op({0xBE}, data)   // mov esi, data
                     .op({0xB9}, count)  // mov ecx, count
                     .op({0xBA}, 0x10U)  // mov edx, 0x10
                     .op({0xF3, 0x6E})   // rep outsb
                     .end());
  guest.start();
  guest.wait_for_end();
  std::vector<std::byte> received;
  for (const Access& write : device.writes()) received.insert(received.end(), write.data.begin(), write.data.end());
  CHECK(received == sent);
}

TEST_CASE("String input fills every unit from the device") {
  if (!test::host_has_kvm()) return;
  constexpr std::uint32_t count = 300;
  TinyGuest guest;
  RecordingDevice device;
  guest.port_io.map(0x10, 4, device);
  guest.add_vcpu(Code()
                     .op({0xBF}, data)   // mov edi, data
                     .op({0xB9}, count)  // mov ecx, count
                     .op({0xBA}, 0x10U)  // mov edx, 0x10
                     .op({0xF3, 0x6D})   // rep insd
                     .end());
  guest.start();
  guest.wait_for_end();
  const auto found = guest.memory.read<std::array<std::uint32_t, count + 1>>(Gpa{data});
  REQUIRE(found);
  CHECK(std::ranges::count(*found, 0x1413'1211U) == count);
  CHECK(found->back() == 0);
}

TEST_CASE("A triple fault is told") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest;
  guest.add_vcpu(Code().op({0x0F, 0x0B}));  // ud2, without an IDT
  guest.start();
  const VcpuStop stop = guest.wait_for_stop();
  CHECK(stop.reason == VcpuStop::Reason::triple_fault);
  CHECK(stop.detail == "vcpu 0: triple fault");
}

TEST_CASE("An instruction that KVM cannot run is told with its address and its bytes") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest;
  guest.add_vcpu(Code()
                     .op({0xBB}, mmio)  // mov ebx, mmio
                     .op({0xD9, 0x03})  // fld dword [rbx]: KVM's emulator has no FPU arithmetic
                     .op({0x90, 0x90}));
  guest.start();
  const VcpuStop stop = guest.wait_for_stop();
  CHECK(stop.reason == VcpuStop::Reason::internal_error);
  CHECK_THAT(stop.detail, Catch::StartsWith("vcpu 0: KVM internal error 1 (emulation failure"));
  CHECK_THAT(stop.detail, Catch::Contains("rip 0x100005, bytes d9 03 90 90"));
}

TEST_CASE("A guest that runs into the void is told with its address alone") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest;
  guest.add_vcpu(Code().op({0xB8}, mmio).op({0xFF, 0xE0}));  // mov eax, mmio; jmp rax
  guest.start();
  const VcpuStop stop = guest.wait_for_stop();
  CHECK(stop.reason == VcpuStop::Reason::internal_error);
  CHECK_THAT(stop.detail, Catch::EndsWith("rip 0xd0000000"));
}

TEST_CASE("A vCPU that halts in the kernel ends when it is asked to") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest(TinyGuest::Interrupts::in_kernel);
  guest.add_vcpu(Code().op({0xE6, Code::end_port}).op({0xF4}).op({0xEB, 0xFD}));  // out; again: hlt; jmp again
  guest.start();
  guest.wait_for_end();
}

TEST_CASE("A vCPU ends whenever it is asked to") {
  if (!test::host_has_kvm()) return;
  for (int wait = 0; wait < 20; ++wait) {
    TinyGuest guest(TinyGuest::Interrupts::in_kernel);
    const Vcpu& vcpu = guest.add_vcpu(Code().op({0xF4}).op({0xEB, 0xFD}));  // again: hlt; jmp again
    CHECK(vcpu.first_run_ns() == 0);
    guest.start();
    std::this_thread::sleep_for(std::chrono::microseconds(wait * 50));
    guest.stop();
  }
}

TEST_CASE("A vCPU that was asked to end before it started does not run") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest;
  RecordingDevice device;
  guest.port_io.map(0x10, 1, device);
  guest.add_vcpu(Code().op({0xE6, 0x10}).op({0xEB, 0xFC})).request_stop();  // again: out 0x10, al; jmp again
  guest.start();
  guest.stop();
  CHECK(device.writes().empty());
}

TEST_CASE("The moment of a vCPU's first instruction is known") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest;
  const Vcpu& vcpu = guest.add_vcpu(Code().end());
  const auto before = std::chrono::steady_clock::now().time_since_epoch().count();
  guest.start();
  guest.wait_for_end();
  CHECK(vcpu.first_run_ns() >= before);
  CHECK(vcpu.first_run_ns() <= std::chrono::steady_clock::now().time_since_epoch().count());
}

TEST_CASE("Two vCPUs run at once and share RAM and devices") {
  if (!test::host_has_kvm()) return;
  TinyGuest guest;
  RecordingDevice device;
  guest.port_io.map(0x10, 2, device);
  // Each raises the other's flag and waits for its own: alone, neither comes to an end.
  guest.add_vcpu(Code()
                     .op({0xBF}, data)              // mov edi, data
                     .op({0xB0, 0x01})              // mov al, 1
                     .op({0xE6, 0x10})              // out 0x10, al
                     .op({0xC6, 0x07, 0x01})        // mov byte [rdi], 1
                     .op({0x80, 0x7F, 0x01, 0x00})  // again: cmp byte [rdi+1], 0
                     .op({0x74, 0xFA})              // je again
                     .end());
  guest.add_vcpu(Code()
                     .op({0xBF}, data)              // mov edi, data
                     .op({0x80, 0x3F, 0x00})        // again: cmp byte [rdi], 0
                     .op({0x74, 0xFB})              // je again
                     .op({0xB0, 0x02})              // mov al, 2
                     .op({0xE6, 0x11})              // out 0x11, al
                     .op({0xC6, 0x47, 0x01, 0x01})  // mov byte [rdi+1], 1
                     .op({0xEB, 0xFE}));            // jmp itself
  guest.start();
  guest.wait_for_end();
  CHECK(device.writes() == std::vector{access(0, {1}), access(1, {2})});
}

}  // namespace
}  // namespace minivm

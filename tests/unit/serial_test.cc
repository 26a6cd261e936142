#include "devices/serial.h"

#include <poll.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>
#include <thread>

using namespace minivm;

namespace {

// Registers and bits in the driver's words.
constexpr std::uint64_t rbr = 0, thr = 0, dll = 0, ier = 1, dlm = 1, iir = 2, fcr = 2, lcr = 3, mcr = 4, lsr = 5,
                        msr = 6, scr = 7;
constexpr unsigned rdi = 1, thri = 2, rlsi = 4, msi = 8;
constexpr unsigned no_int = 0x01, msi_id = 0x00, thri_id = 0x02, rdi_id = 0x04, rlsi_id = 0x06, id_mask = 0x0F;
constexpr unsigned dr = 0x01, oe = 0x02, thre = 0x20, temt = 0x40;

struct Fixture {
  std::string output;
  bool ready = true;
  Serial serial{[this](std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) output.push_back(static_cast<char>(byte));
    return ready;
  }};

  unsigned in(std::uint64_t offset) {
    std::byte value{};
    serial.read(offset, std::span(&value, 1));
    return std::to_integer<unsigned>(value);
  }
  void out(std::uint64_t offset, unsigned value) {
    const std::byte byte{static_cast<unsigned char>(value)};
    serial.write(offset, std::span(&byte, 1));
  }
  std::size_t type(std::string_view keys) { return serial.push_input(std::as_bytes(std::span(keys))); }
  // Whether the line made an edge since the last call.
  bool edge() {
    std::uint64_t count = 0;
    return ::read(serial.interrupt_fd(), &count, sizeof count) == sizeof count;
  }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "bytes written to the data register come out in order") {
  for (const char c : std::string("Hello\n")) {
    CHECK((in(lsr) & (thre | temt)) == (thre | temt));
    out(thr, static_cast<unsigned char>(c));
  }
  CHECK(output == "Hello\n");
  CHECK_FALSE(edge());
}

TEST_CASE_METHOD(Fixture, "Linux' probing finds a 16550A") {
  // The interrupt enable register keeps four bits.
  out(ier, 0);
  CHECK(in(ier) == 0);
  out(ier, 0xFF);
  CHECK(in(ier) == 0x0F);
  out(ier, 0);
  // The loopback test.
  out(mcr, 0x10 | 0x0A);
  CHECK((in(msr)&0xF0) == 0x90);
  out(mcr, 0);
  CHECK((in(msr)&0xF0) == 0xB0);
  // FIFOs that announce themselves, and no 64-byte ones.
  CHECK(in(iir) >> 6 == 0);
  out(fcr, 0x01);
  CHECK(in(iir) >> 6 == 3);
  out(lcr, 0x80);
  out(fcr, 0x21);
  CHECK(in(iir) >> 5 == 6);
  out(lcr, 0);
  out(scr, 0x5A);
  CHECK(in(scr) == 0x5A);
}

TEST_CASE_METHOD(Fixture, "the divisor latch hides data and interrupt enable") {
  out(ier, rdi);
  out(lcr, 0x83);
  out(dll, 0x34);
  out(dlm, 0x12);
  CHECK(in(dll) == 0x34);
  CHECK(in(dlm) == 0x12);
  out(lcr, 0x03);
  CHECK(in(lcr) == 0x03);
  CHECK(in(ier) == rdi);
  CHECK(output.empty());
}

TEST_CASE_METHOD(Fixture, "loopback returns what is sent, and sends nothing") {
  out(fcr, 0x01);
  out(mcr, 0x10);
  for (unsigned i = 0; i < 17; ++i) out(thr, i);
  CHECK(output.empty());
  CHECK(in(lsr) == (dr | oe | thre | temt));  // the 17th did not fit
  CHECK(in(lsr) == (dr | thre | temt));       // told once
  for (unsigned i = 0; i < 16; ++i) CHECK(in(rbr) == i);
  CHECK((in(lsr)&dr) == 0);
}

TEST_CASE_METHOD(Fixture, "input waits in the FIFO, interrupts, and is taken in order") {
  out(ier, rdi);
  CHECK_FALSE(edge());
  CHECK((in(iir)&id_mask) == no_int);
  CHECK(type("ab") == 2);
  CHECK(edge());
  CHECK((in(iir)&id_mask) == rdi_id);
  CHECK(in(rbr) == 'a');
  CHECK((in(lsr)&dr) != 0);
  CHECK((in(iir)&id_mask) == rdi_id);
  CHECK(in(rbr) == 'b');
  CHECK((in(lsr)&dr) == 0);
  CHECK((in(iir)&id_mask) == no_int);
  CHECK_FALSE(edge());
  CHECK(type("c") == 1);
  CHECK(edge());
}

TEST_CASE_METHOD(Fixture, "input is bounded, and the host hears when there is room again (FC #2177)") {
  int calls = 0;
  serial.on_room([&] { ++calls; });
  CHECK(serial.room() == Serial::fifo_size);
  CHECK(type("0123456789abcdefXYZ") == Serial::fifo_size);
  CHECK(serial.room() == 0);
  CHECK(type("X") == 0);
  for (int i = 0; i < 15; ++i) in(rbr);
  CHECK(calls == 0);
  CHECK(in(rbr) == 'f');
  CHECK(calls == 1);
  CHECK(serial.room() == Serial::fifo_size);
  in(rbr);
  CHECK(calls == 1);  // nothing was given meanwhile
  SECTION("a FIFO that was never full says so as well: the host may have seen less room than there is") {
    type("x");
    in(rbr);
    CHECK(calls == 2);
  }
  SECTION("clearing the FIFO makes room, too") {
    type("x");
    out(fcr, 0x03);
    CHECK((in(lsr)&dr) == 0);
    CHECK(calls == 2);
  }
}

TEST_CASE_METHOD(Fixture, "on_room may call back into the serial port") {
  serial.on_room([&] { type("b"); });
  type("a");
  CHECK(in(rbr) == 'a');
  CHECK(in(rbr) == 'b');
}

TEST_CASE_METHOD(Fixture, "input that arrives with interrupts off makes an edge when they are enabled") {
  type("a");
  CHECK_FALSE(edge());
  out(ier, rdi);
  CHECK(edge());
}

TEST_CASE_METHOD(Fixture, "the transmitter interrupts when enabled and after each byte, until its cause is read") {
  out(ier, thri);
  CHECK(edge());
  CHECK((in(iir)&id_mask) == thri_id);
  CHECK((in(iir)&id_mask) == no_int);
  out(thr, 'a');
  CHECK(edge());
  out(thr, 'b');
  CHECK(edge());  // the first cause was never read: the edge comes all the same
  CHECK((in(iir)&id_mask) == thri_id);
  // Linux' test for chips that do not raise it a second time.
  out(ier, 0);
  out(ier, thri);
  CHECK(edge());
  CHECK((in(iir)&id_mask) == thri_id);
}

TEST_CASE_METHOD(Fixture, "a handler that serves one cause is called for the other: no edge is lost") {
  out(ier, rdi | thri);
  CHECK(edge());
  type("a");
  CHECK(edge());
  CHECK((in(iir)&id_mask) == rdi_id);  // the higher priority is told; the transmitter still waits
  CHECK(edge());
  CHECK(in(rbr) == 'a');
  CHECK((in(iir)&id_mask) == thri_id);
  CHECK_FALSE(edge());
  CHECK((in(iir)&id_mask) == no_int);
}

TEST_CASE_METHOD(Fixture, "overrun and modem changes interrupt with their own priority") {
  out(fcr, 0x01);
  out(ier, rlsi | msi);
  CHECK_FALSE(edge());
  out(mcr, 0x10);  // all modem lines drop
  CHECK(edge());
  CHECK((in(iir)&id_mask) == msi_id);
  CHECK((in(msr)&0x0F) == 0x0B);
  CHECK((in(msr)&0x0F) == 0);
  CHECK((in(iir)&id_mask) == no_int);
  for (unsigned i = 0; i < 17; ++i) out(thr, i);
  CHECK(edge());
  CHECK((in(iir)&id_mask) == rlsi_id);
  in(lsr);
  CHECK((in(iir)&id_mask) == no_int);
}

TEST_CASE_METHOD(Fixture, "a sink that is full makes the transmitter busy until it resumes") {
  out(ier, thri);
  in(iir);
  edge();
  ready = false;
  out(thr, 'a');
  CHECK((in(lsr) & (thre | temt)) == 0);
  CHECK_FALSE(edge());
  CHECK((in(iir)&id_mask) == no_int);
  out(ier, 0);
  out(ier, thri);
  CHECK_FALSE(edge());
  out(thr, 'b');  // a guest that does not look: nothing is lost here
  CHECK(output == "ab");

  ready = true;
  serial.resume_output();
  CHECK(edge());
  CHECK((in(lsr) & (thre | temt)) == (thre | temt));
  CHECK((in(iir)&id_mask) == thri_id);
  serial.resume_output();
  CHECK_FALSE(edge());
}

TEST_CASE_METHOD(Fixture, "wide accesses act as the bytes they are made of; the status registers are read-only") {
  std::array<std::byte, 8> all{};
  serial.read(0, all);
  CHECK(all[5] == std::byte{thre | temt});
  std::array<std::byte, 4> values{std::byte{'x'}, std::byte{rdi}, std::byte{1}, std::byte{3}};
  serial.write(0, values);
  CHECK(output == "x");
  CHECK(in(ier) == rdi);
  CHECK(in(lcr) == 3);
  out(lsr, 0);
  out(msr, 0xFF);
  CHECK((in(lsr)&thre) != 0);
  CHECK((in(msr)&0x0F) == 0);
}

TEST_CASE("every byte passes from a host thread to a guest that sleeps between interrupts") {
  static constexpr int total = 20'000;
  Serial serial([](std::span<const std::byte>) { return true; });
  const std::byte enable{rdi};
  serial.write(ier, std::span(&enable, 1));
  std::thread host([&] {
    for (int sent = 0; sent < total;) {
      const std::byte byte{static_cast<unsigned char>(sent)};
      if (serial.push_input(std::span(&byte, 1)) == 1) {
        ++sent;
      } else {
        std::this_thread::yield();
      }
    }
  });
  // The handler's shape: one identification, then data as long as the line status tells of any.
  int received = 0;
  bool in_order = true;
  while (received < total) {
    pollfd line{.fd = serial.interrupt_fd(), .events = POLLIN, .revents = 0};
    if (::poll(&line, 1, 10'000) != 1) break;  // an edge was lost
    std::uint64_t count = 0;
    if (::read(serial.interrupt_fd(), &count, sizeof count) != sizeof count) break;
    std::byte value{};
    serial.read(iir, std::span(&value, 1));
    for (serial.read(lsr, std::span(&value, 1)); (value & std::byte{dr}) != std::byte{0};
         serial.read(lsr, std::span(&value, 1))) {
      serial.read(rbr, std::span(&value, 1));
      in_order = in_order && value == std::byte{static_cast<unsigned char>(received)};
      ++received;
    }
  }
  host.join();
  CHECK(received == total);
  CHECK(in_order);
}

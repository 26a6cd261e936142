#include "devices/serial.h"

#include <algorithm>
#include <utility>

namespace minivm {
namespace {

// Registers, by offset. With the divisor latch open, offsets 0 and 1 are the divisor.
constexpr std::uint64_t data_register = 0;
constexpr std::uint64_t interrupt_enable_register = 1;
constexpr std::uint64_t interrupt_identification_register = 2;  // read
constexpr std::uint64_t fifo_control_register = 2;              // write
constexpr std::uint64_t line_control_register = 3;
constexpr std::uint64_t modem_control_register = 4;
constexpr std::uint64_t line_status_register = 5;
constexpr std::uint64_t modem_status_register = 6;
constexpr std::uint64_t scratch_register = 7;

// Interrupt enable; the same bits serve as the set of causes.
constexpr unsigned received_data = 1U << 0;
constexpr unsigned transmitter_empty = 1U << 1;
constexpr unsigned line_status_change = 1U << 2;
constexpr unsigned modem_status_change = 1U << 3;
constexpr unsigned all_causes = 0x0F;

// Interrupt identification.
constexpr unsigned no_interrupt = 0x01;
constexpr unsigned fifos_enabled = 0xC0;

// FIFO control.
constexpr unsigned fifo_enable = 1U << 0;
constexpr unsigned fifo_clear_received = 1U << 1;

constexpr unsigned divisor_latch = 1U << 7;  // line control

// Modem control.
constexpr unsigned data_terminal_ready = 1U << 0;
constexpr unsigned request_to_send = 1U << 1;
constexpr unsigned output_1 = 1U << 2;
constexpr unsigned output_2 = 1U << 3;
constexpr unsigned loopback = 1U << 4;
constexpr unsigned modem_control_bits = 0x1F;

// Line status.
constexpr unsigned data_ready = 1U << 0;
constexpr unsigned overrun_error = 1U << 1;
constexpr unsigned holding_register_empty = 1U << 5;
constexpr unsigned transmitter_idle = 1U << 6;

// Modem status; the bits 4 positions below tell that these changed.
constexpr unsigned clear_to_send = 1U << 4;
constexpr unsigned data_set_ready = 1U << 5;
constexpr unsigned ring_indicator = 1U << 6;
constexpr unsigned carrier_detect = 1U << 7;

// The modem's lines: always there, or what the modem control register loops back.
unsigned modem_lines(unsigned modem_control) noexcept {
  if ((modem_control & loopback) == 0) return clear_to_send | data_set_ready | carrier_detect;
  return ((modem_control & request_to_send) != 0 ? clear_to_send : 0) |
         ((modem_control & data_terminal_ready) != 0 ? data_set_ready : 0) |
         ((modem_control & output_1) != 0 ? ring_indicator : 0) |
         ((modem_control & output_2) != 0 ? carrier_detect : 0);
}

}  // namespace

std::size_t Serial::room() const {
  const std::lock_guard lock(mutex_);
  return fifo_size - received_count_;
}

std::size_t Serial::push_input(std::span<const std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  const auto taken = bytes.first(std::min(bytes.size(), fifo_size - received_count_));
  for (const std::byte byte : taken) receive(std::to_integer<std::uint8_t>(byte));
  input_given_ |= !taken.empty();
  // New input is a new edge, even for a guest that has not looked at the last.
  signalled_causes_ &= ~received_data;
  update_line();
  return taken.size();
}

void Serial::resume_output() {
  const std::lock_guard lock(mutex_);
  if (!std::exchange(transmitter_busy_, false)) return;
  transmitter_empty_pending_ = true;
  update_line();
}

void Serial::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
  bool room_again = false;
  {
    const std::lock_guard lock(mutex_);
    for (std::byte& byte : data) byte = std::byte{read_register(offset++)};
    room_again = take_room_notice();
  }
  if (room_again) on_room_();
}

void Serial::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
  bool room_again = false;
  {
    const std::lock_guard lock(mutex_);
    for (const std::byte byte : data) write_register(offset++, std::to_integer<std::uint8_t>(byte));
    room_again = take_room_notice();
  }
  if (room_again) on_room_();
}

std::uint8_t Serial::read_register(std::uint64_t offset) noexcept {
  const bool latch_open = (line_control_ & divisor_latch) != 0;
  switch (offset) {
    case data_register:
      return latch_open ? divisor_[0] : read_received();
    case interrupt_enable_register:
      return latch_open ? divisor_[1] : interrupt_enable_;
    case interrupt_identification_register:
      return read_interrupt_identification();
    case line_control_register:
      return line_control_;
    case modem_control_register:
      return modem_control_;
    case line_status_register:
      return read_line_status();
    case modem_status_register:
      return read_modem_status();
    case scratch_register:
      return scratch_;
    default:
      return 0xFF;
  }
}

void Serial::write_register(std::uint64_t offset, std::uint8_t value) noexcept {
  const bool latch_open = (line_control_ & divisor_latch) != 0;
  switch (offset) {
    case data_register:
      if (!latch_open) return transmit(value);
      divisor_[0] = value;
      return;
    case interrupt_enable_register:
      if (!latch_open) return write_interrupt_enable(value);
      divisor_[1] = value;
      return;
    case fifo_control_register:
      return write_fifo_control(value);
    case line_control_register:
      line_control_ = value;
      return;
    case modem_control_register:
      return write_modem_control(value);
    case scratch_register:
      scratch_ = value;
      return;
    default:
      return;  // the status registers are read-only
  }
}

std::uint8_t Serial::read_received() noexcept {
  if (received_count_ == 0) return 0;
  const std::uint8_t value = received_[received_begin_];
  received_begin_ = (received_begin_ + 1) % fifo_size;
  --received_count_;
  update_line();
  return value;
}

// Tells the pending cause of the highest priority. Reading the transmitter's cause takes it away.
std::uint8_t Serial::read_interrupt_identification() noexcept {
  struct Identification {
    unsigned cause;
    unsigned code;
  };
  static constexpr std::array by_priority{Identification{line_status_change, 0x06}, Identification{received_data, 0x04},
                                          Identification{transmitter_empty, 0x02},
                                          Identification{modem_status_change, 0x00}};
  const unsigned causes = pending_causes();
  const auto* const found =
      std::ranges::find_if(by_priority, [causes](const auto& entry) { return (causes & entry.cause) != 0; });
  const unsigned fifos = fifo_enabled_ ? fifos_enabled : 0;
  if (found == by_priority.end()) return static_cast<std::uint8_t>(fifos | no_interrupt);
  if (found->cause == transmitter_empty) transmitter_empty_pending_ = false;
  // The line is edge-triggered: a handler that serves one cause and leaves must be called for the others.
  signalled_causes_ &= found->cause;
  update_line();
  return static_cast<std::uint8_t>(fifos | found->code);
}

std::uint8_t Serial::read_line_status() noexcept {
  const unsigned status = (received_count_ != 0 ? data_ready : 0) | (overrun_ ? overrun_error : 0) |
                          (transmitter_busy_ ? 0 : holding_register_empty | transmitter_idle);
  overrun_ = false;
  update_line();
  return static_cast<std::uint8_t>(status);
}

std::uint8_t Serial::read_modem_status() noexcept {
  const unsigned status = modem_lines(modem_control_) | modem_changes_;
  modem_changes_ = 0;
  update_line();
  return static_cast<std::uint8_t>(status);
}

void Serial::transmit(std::uint8_t value) noexcept {
  // The holding register is full for a moment, so each byte makes an edge of its own.
  transmitter_empty_pending_ = false;
  update_line();
  if ((modem_control_ & loopback) != 0) {
    receive(value);
  } else {
    const std::byte byte{value};
    transmitter_busy_ = !sink_(std::span(&byte, 1));
  }
  transmitter_empty_pending_ = !transmitter_busy_;
  update_line();
}

void Serial::receive(std::uint8_t value) noexcept {
  if (received_count_ == fifo_size) {
    overrun_ = true;
    return;
  }
  received_[(received_begin_ + received_count_) % fifo_size] = value;
  ++received_count_;
}

void Serial::write_interrupt_enable(std::uint8_t value) noexcept {
  const bool newly_enabled = (value & ~interrupt_enable_ & transmitter_empty) != 0;
  interrupt_enable_ = value & all_causes;
  // Enabling this interrupt while the holding register is empty raises it at once: drivers start to send that way.
  if (newly_enabled && !transmitter_busy_) transmitter_empty_pending_ = true;
  update_line();
}

void Serial::write_fifo_control(std::uint8_t value) noexcept {
  const bool enable = (value & fifo_enable) != 0;
  // Turning the FIFOs on or off empties them, too.
  if ((value & fifo_clear_received) != 0 || enable != fifo_enabled_) clear_received();
  fifo_enabled_ = enable;
  update_line();
}

void Serial::write_modem_control(std::uint8_t value) noexcept {
  const unsigned before = modem_lines(modem_control_);
  modem_control_ = value & modem_control_bits;
  const unsigned after = modem_lines(modem_control_);
  // Of the ring indicator only the end of ringing counts.
  const unsigned changed = ((before ^ after) & ~ring_indicator) | (before & ~after & ring_indicator);
  modem_changes_ = static_cast<std::uint8_t>(modem_changes_ | changed >> 4);
  update_line();
}

void Serial::clear_received() noexcept {
  received_begin_ = 0;
  received_count_ = 0;
}

unsigned Serial::pending_causes() const noexcept {
  const unsigned causes = (received_count_ != 0 ? received_data : 0) |
                          (transmitter_empty_pending_ ? transmitter_empty : 0) | (overrun_ ? line_status_change : 0) |
                          (modem_changes_ != 0 ? modem_status_change : 0);
  return causes & interrupt_enable_;
}

// One edge for each cause that was not there before.
void Serial::update_line() noexcept {
  const unsigned causes = pending_causes();
  if ((causes & ~signalled_causes_) != 0) line_.signal();
  signalled_causes_ = causes;
}

bool Serial::take_room_notice() noexcept {
  return received_count_ == 0 && on_room_ && std::exchange(input_given_, false);
}

}  // namespace minivm

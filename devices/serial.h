#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>

#include "base/fd.h"
#include "devices/bus.h"
#include "devices/input_port.h"

namespace minivm {

/// A 16550A UART with its 16-byte receive FIFO, as the PC's COM1 (PC16550D data sheet). Bytes go out at once, at any
/// divisor; `sink` can hold the transmitter busy. The registers may be used by any vCPU and the rest of the interface
/// by any thread: one mutex guards all.
class Serial final : public BusDevice, public InputPort {
 public:
  static constexpr std::size_t fifo_size = 16;

  /// Gets every byte that the guest sends, on its vCPU's thread and under the mutex: it must not call back. False makes
  /// the transmitter look busy until `resume_output`; what a guest sends all the same comes too, and may be dropped.
  using Sink = std::function<bool(std::span<const std::byte>)>;

  explicit Serial(Sink sink) : sink_(std::move(sink)) {}

  /// Signalled once for each new cause of an interrupt: for an edge-triggered line.
  int interrupt_fd() const noexcept { return line_.fd(); }

  // The receive FIFO. That there is room is said on the guest's vCPU's thread, without the mutex.
  std::size_t room() const override;
  std::size_t push_input(std::span<const std::byte> bytes) override;
  void on_room(std::function<void()> on_room) override { on_room_ = std::move(on_room); }
  /// The sink takes bytes again.
  void resume_output();

  void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
  void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;

 private:
  // All under mutex_.
  std::uint8_t read_register(std::uint64_t offset) noexcept;
  void write_register(std::uint64_t offset, std::uint8_t value) noexcept;
  std::uint8_t read_received() noexcept;
  std::uint8_t read_interrupt_identification() noexcept;
  std::uint8_t read_line_status() noexcept;
  std::uint8_t read_modem_status() noexcept;
  void transmit(std::uint8_t value) noexcept;
  void receive(std::uint8_t value) noexcept;
  void write_interrupt_enable(std::uint8_t value) noexcept;
  void write_fifo_control(std::uint8_t value) noexcept;
  void write_modem_control(std::uint8_t value) noexcept;
  void clear_received() noexcept;
  unsigned pending_causes() const noexcept;
  void update_line() noexcept;
  bool take_room_notice() noexcept;

  Sink sink_;
  std::function<void()> on_room_;
  EventFd line_;

  mutable std::mutex mutex_;  // guards what follows
  std::uint8_t interrupt_enable_ = 0;
  std::uint8_t line_control_ = 0;
  std::uint8_t modem_control_ = 0;
  std::uint8_t modem_changes_ = 0;
  std::uint8_t scratch_ = 0;
  std::array<std::uint8_t, 2> divisor_{12, 0};  // 9600 baud; it has no effect
  bool fifo_enabled_ = false;
  bool overrun_ = false;
  bool transmitter_busy_ = false;
  bool transmitter_empty_pending_ = false;  // the interrupt cause, not the status bit
  std::array<std::uint8_t, fifo_size> received_{};
  std::size_t received_begin_ = 0;
  std::size_t received_count_ = 0;
  bool input_given_ = false;  // since on_room was called last
  unsigned signalled_causes_ = 0;
};

}  // namespace minivm

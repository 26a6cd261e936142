#pragma once

#include <cstddef>
#include <functional>
#include <span>

namespace minivm {

/// The input side of a guest's terminal, with the guest's pace.
class InputPort {
 public:
  virtual ~InputPort() = default;

  /// How many bytes it can take now.
  virtual std::size_t room() const = 0;
  /// Gives the guest input; bytes beyond `room` are not taken. The number of bytes taken.
  virtual std::size_t push_input(std::span<const std::byte> bytes) = 0;
  /// `on_room` is called, on any thread, when the guest has taken all input. Set it before the guest runs.
  virtual void on_room(std::function<void()> on_room) = 0;
};

}  // namespace minivm

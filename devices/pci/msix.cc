#include "devices/pci/msix.h"

#include <array>
#include <cstring>
#include <utility>

#include "devices/pci/spec.h"

namespace minivm::pci {
namespace {

constexpr std::size_t word_size = sizeof(std::uint32_t);
constexpr std::size_t words_per_entry = msix::entry_size / word_size;

// What a write may change of each word: the lowest two bits of an address are always zero (6.8.2.7), of the vector
// control only the mask is there.
constexpr std::array<std::uint32_t, words_per_entry> writable{~3U, ~0U, ~0U, msix::vector_masked};

}  // namespace

Msix::Msix(std::uint16_t vectors, Connect connect) : connect_(std::move(connect)), vectors_(vectors) {}

void Msix::signal(std::uint16_t vector) noexcept {
  const std::lock_guard lock(mutex_);
  if (!enabled_ || vector >= vectors_.size()) return;
  if (masked(vectors_[vector])) {
    vectors_[vector].pending = true;
  } else {
    vectors_[vector].line.signal();
  }
}

void Msix::set_control(std::uint16_t control) noexcept {
  const std::lock_guard lock(mutex_);
  enabled_ = (control & msix::control_enable) != 0;
  all_masked_ = (control & msix::control_mask_all) != 0;
  for (std::uint16_t vector = 0; vector < size(); ++vector) {
    if (!enabled_) vectors_[vector].pending = false;
    update(vector);
  }
}

void Msix::read_table(std::uint64_t offset, std::span<std::byte> data) const noexcept {
  const std::lock_guard lock(mutex_);
  for (std::byte& byte : data) {
    byte = static_cast<std::byte>(word(offset / word_size) >> (8 * (offset % word_size)));
    ++offset;
  }
}

void Msix::write_table(std::uint64_t offset, std::span<const std::byte> data) noexcept {
  if ((data.size() != word_size && data.size() != 2 * word_size) || offset % data.size() != 0) return;
  const std::lock_guard lock(mutex_);
  const std::size_t first = offset / word_size;
  if (first / words_per_entry >= vectors_.size()) return;
  for (std::size_t i = 0; i < data.size() / word_size; ++i) {
    std::uint32_t value = 0;
    std::memcpy(&value, data.data() + i * word_size, sizeof value);
    const std::size_t place = (first + i) % words_per_entry;
    vectors_[(first + i) / words_per_entry].entry[place] = value & writable[place];
  }
  update(static_cast<std::uint16_t>(first / words_per_entry));
}

void Msix::read_pending(std::uint64_t offset, std::span<std::byte> data) const noexcept {
  const std::lock_guard lock(mutex_);
  for (std::byte& byte : data) {
    unsigned bits = 0;
    for (unsigned bit = 0; bit < 8; ++bit) {
      const std::uint64_t vector = 8 * offset + bit;
      if (vector < vectors_.size() && vectors_[vector].pending) bits |= 1U << bit;
    }
    byte = static_cast<std::byte>(bits);
    ++offset;
  }
}

std::uint32_t Msix::word(std::size_t index) const noexcept {
  if (index / words_per_entry >= vectors_.size()) return 0;
  return vectors_[index / words_per_entry].entry[index % words_per_entry];
}

bool Msix::masked(const Vector& vector) const noexcept {
  return all_masked_ || (vector.entry[3] & msix::vector_masked) != 0;
}

void Msix::update(std::uint16_t index) noexcept {
  Vector& vector = vectors_[index];
  if (!enabled_ || masked(vector)) return;
  const auto& [address_low, address_high, data, control] = vector.entry;
  const MsiMessage message{std::uint64_t{address_high} << 32 | address_low, data};
  if (vector.connected != message) {
    connect_(index, message);
    vector.connected = message;
  }
  if (std::exchange(vector.pending, false)) vector.line.signal();
}

}  // namespace minivm::pci

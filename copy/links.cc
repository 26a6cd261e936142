#include "copy/links.h"

#include <cstring>
#include <span>

namespace minivm::copy {

std::string_view Links::find_or_add(dev_t device, ino_t inode, std::string_view path) noexcept {
  if (!memory_) memory_ = Mapping(slots * sizeof(Slot) + text_size);
  if (!memory_ || path.empty()) return {};
  const std::span table(reinterpret_cast<Slot*>(memory_.bytes().data()), slots);
  const auto text = memory_.bytes().subspan(slots * sizeof(Slot));
  // Fibonacci hashing, then the next free slot: the table is never full.
  std::size_t at = (inode ^ device << 40) * 0x9E37'79B9'7F4A'7C15ULL >> 47;
  static_assert(slots == 1U << (64 - 47));
  for (; table[at].size != 0; at = (at + 1) % slots) {
    const Slot& slot = table[at];
    if (slot.device == device && slot.inode == inode) {
      return {reinterpret_cast<const char*>(text.data()) + slot.begin, slot.size};
    }
  }
  if (used_ == max_used || path.size() > text_size - text_used_) return {};
  table[at] = {device, inode, static_cast<std::uint32_t>(text_used_), static_cast<std::uint32_t>(path.size())};
  std::memcpy(text.data() + text_used_, path.data(), path.size());
  text_used_ += path.size();
  ++used_;
  return {};
}

}  // namespace minivm::copy

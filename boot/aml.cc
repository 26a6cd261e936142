#include "boot/aml.h"

#include <algorithm>
#include <iterator>
#include <span>

namespace minivm::boot {
namespace {

constexpr std::uint8_t byte_of(std::uint32_t value, unsigned index) {
  return static_cast<std::uint8_t>(value >> (8 * index));
}

// A range that a bus hands on: neither end can be moved (ACPI 6.4, 6.4.3.5, general flags).
constexpr std::uint8_t fixed_range = 1U << 2 | 1U << 3;

void append(std::vector<std::byte>& to, std::initializer_list<std::uint8_t> bytes) {
  std::ranges::transform(bytes, std::back_inserter(to), [](std::uint8_t byte) { return std::byte{byte}; });
}

}  // namespace

AmlResources& AmlResources::io_port(std::uint16_t base, std::uint8_t size) {
  // ACPI 6.4, 6.4.2.5: 16-bit decoding, lowest and highest base, alignment.
  put({0x47, 0x01, byte_of(base, 0), byte_of(base, 1), byte_of(base, 0), byte_of(base, 1), 1, size});
  return *this;
}

AmlResources& AmlResources::memory(std::uint32_t base, std::uint32_t size) {
  // ACPI 6.4, 6.4.3.4: nine bytes follow, the first says "writeable".
  put({0x86, 9, 0, 0x01, byte_of(base, 0), byte_of(base, 1), byte_of(base, 2), byte_of(base, 3)});
  put({byte_of(size, 0), byte_of(size, 1), byte_of(size, 2), byte_of(size, 3)});
  return *this;
}

AmlResources& AmlResources::bus_number(std::uint16_t number) {
  // ACPI 6.4, 6.4.3.5.3: 13 bytes follow; bus numbers; granularity, first, last, translation, length.
  put({0x88, 13, 0, 2, fixed_range, 0, 0, 0, byte_of(number, 0), byte_of(number, 1)});
  put({byte_of(number, 0), byte_of(number, 1), 0, 0, 1, 0});
  return *this;
}

AmlResources& AmlResources::memory_window(std::uint32_t base, std::uint32_t size) {
  constexpr std::uint8_t writable = 1U << 0;
  const std::uint32_t last = base + size - 1;
  // ACPI 6.4, 6.4.3.5.2: 23 bytes follow; memory; granularity, first, last, translation, length.
  put({0x87, 23, 0, 0, fixed_range, writable, 0, 0, 0, 0});
  put({byte_of(base, 0), byte_of(base, 1), byte_of(base, 2), byte_of(base, 3)});
  put({byte_of(last, 0), byte_of(last, 1), byte_of(last, 2), byte_of(last, 3), 0, 0, 0, 0});
  put({byte_of(size, 0), byte_of(size, 1), byte_of(size, 2), byte_of(size, 3)});
  return *this;
}

AmlResources& AmlResources::interrupt(std::uint32_t gsi) {
  constexpr std::uint8_t consumer = 1U << 0;
  constexpr std::uint8_t edge = 1U << 1;  // active-high and exclusive are zeroes
  // ACPI 6.4, 6.4.3.6: six bytes follow, of which one interrupt number.
  put({0x89, 6, 0, consumer | edge, 1, byte_of(gsi, 0), byte_of(gsi, 1), byte_of(gsi, 2), byte_of(gsi, 3)});
  return *this;
}

void AmlResources::put(std::initializer_list<std::uint8_t> bytes) { append(bytes_, bytes); }

void AmlWriter::integer(std::string_view name, std::uint32_t value) {
  put_name(name);
  put_integer(value);
}

void AmlWriter::string(std::string_view name, std::string_view value) {
  put_name(name);
  put({0x0D});  // StringPrefix
  put_text(value);
  put({0});
}

void AmlWriter::package(std::string_view name, std::initializer_list<std::uint8_t> values) {
  put_name(name);
  put({0x12});  // PackageOp
  const std::size_t start = bytes_.size();
  put({static_cast<std::uint8_t>(values.size())});
  for (const std::uint8_t value : values) put_integer(value);
  close_block(start);
}

void AmlWriter::resources(std::string_view name, const AmlResources& value) {
  put_name(name);
  put({0x11});  // BufferOp
  const std::size_t start = bytes_.size();
  put_integer(static_cast<std::uint32_t>(value.bytes().size() + 2));
  bytes_.insert(bytes_.end(), value.bytes().begin(), value.bytes().end());
  put({0x79, 0});  // end tag; a checksum of zero is taken as correct (ACPI 6.4, 6.4.2.9)
  close_block(start);
}

/// Puts PkgLength (ACPI 6.4, 20.2.4) before all that was written from `start` on. It counts its own bytes too.
void AmlWriter::close_block(std::size_t start) {
  const auto content = static_cast<std::uint32_t>(bytes_.size() - start);
  std::vector<std::byte> length;
  if (content + 1 < (1U << 6)) {
    append(length, {byte_of(content + 1, 0)});
  } else {
    // The first byte holds how many more there are and the lowest four bits.
    const std::uint8_t more = content + 2 < (1U << 12) ? 1 : content + 3 < (1U << 20) ? 2 : 3;
    const std::uint32_t value = content + 1 + more;
    append(length, {static_cast<std::uint8_t>(more << 6 | (value & 0x0F))});
    for (unsigned i = 0; i < more; ++i) append(length, {byte_of(value >> 4, i)});
  }
  bytes_.insert(bytes_.begin() + static_cast<std::ptrdiff_t>(start), length.begin(), length.end());
}

void AmlWriter::put_name(std::string_view name) {
  put({0x08});  // NameOp
  put_text(name);
}

void AmlWriter::put_integer(std::uint32_t value) {
  if (value <= 1) {
    put({byte_of(value, 0)});  // ZeroOp, OneOp
  } else if (value <= 0xFF) {
    put({0x0A, byte_of(value, 0)});
  } else if (value <= 0xFFFF) {
    put({0x0B, byte_of(value, 0), byte_of(value, 1)});
  } else {
    put({0x0C, byte_of(value, 0), byte_of(value, 1), byte_of(value, 2), byte_of(value, 3)});
  }
}

void AmlWriter::put_text(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

void AmlWriter::put(std::initializer_list<std::uint8_t> bytes) { append(bytes_, bytes); }

}  // namespace minivm::boot

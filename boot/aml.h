#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace minivm::boot {

/// A resource descriptor list, the value of _CRS (ACPI 6.4, 6.4).
class AmlResources {
 public:
  AmlResources& io_port(std::uint16_t base, std::uint8_t size);
  /// Read-write memory below 4 GiB.
  AmlResources& memory(std::uint32_t base, std::uint32_t size);
  /// For a bus: the numbers of the only bus below it, and memory below 4 GiB that it hands on to its devices.
  AmlResources& bus_number(std::uint16_t number);
  AmlResources& memory_window(std::uint32_t base, std::uint32_t size);
  /// An edge-triggered, active-high interrupt that is not shared.
  AmlResources& interrupt(std::uint32_t gsi);

  const std::vector<std::byte>& bytes() const noexcept { return bytes_; }

 private:
  void put(std::initializer_list<std::uint8_t> bytes);

  std::vector<std::byte> bytes_;
};

/// Writes ACPI Machine Language, as much of it as describing devices takes (ACPI 6.4, 20). Names are four characters,
/// optionally after a backslash. `scope` and `device` call `body`, which writes their content with the same writer.
class AmlWriter {
 public:
  template <typename Body>
  void scope(std::string_view name, Body body) {
    put({0x10});  // ScopeOp
    write_block(name, body);
  }

  template <typename Body>
  void device(std::string_view name, Body body) {
    put({0x5B, 0x82});  // ExtOpPrefix, DeviceOp
    write_block(name, body);
  }

  // The four are Name(name, value), with a value of the type that the function is called after.
  void integer(std::string_view name, std::uint32_t value);
  void string(std::string_view name, std::string_view value);
  void package(std::string_view name, std::initializer_list<std::uint8_t> values);
  void resources(std::string_view name, const AmlResources& value);

  const std::vector<std::byte>& bytes() const noexcept { return bytes_; }

 private:
  template <typename Body>
  void write_block(std::string_view name, Body& body) {
    const std::size_t start = bytes_.size();
    put_text(name);
    body();
    close_block(start);
  }

  void close_block(std::size_t start);
  void put_name(std::string_view name);
  void put_integer(std::uint32_t value);
  void put_text(std::string_view text);
  void put(std::initializer_list<std::uint8_t> bytes);

  std::vector<std::byte> bytes_;
};

}  // namespace minivm::boot

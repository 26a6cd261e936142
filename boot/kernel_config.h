#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace minivm::boot {

/// A kernel's build configuration.
class KernelConfig {
 public:
  enum class Value : unsigned char { off, module, built_in };

  /// Takes the text of a .config file; lines that make no sense say nothing.
  explicit KernelConfig(std::string text) noexcept : text_(std::move(text)) {}

  /// `option` with its prefix: "CONFIG_ACPI". Numbers and strings count as built_in.
  Value value(std::string_view option) const;
  bool built_in(std::string_view option) const { return value(option) == Value::built_in; }

 private:
  // Searched when asked: a boot asks for a handful of the five thousand options that a distribution sets, and a table
  // of all of them would cost more than those searches.
  std::string text_;
};

}  // namespace minivm::boot

#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

namespace minivm::boot {

/// A kernel's build configuration.
class KernelConfig {
 public:
  enum class Value : unsigned char { off, module, built_in };

  /// Parses the text of a .config file; lines that make no sense are skipped.
  explicit KernelConfig(std::string_view text);

  /// `option` with its prefix: "CONFIG_ACPI". Numbers and strings count as built_in.
  Value value(std::string_view option) const;
  bool built_in(std::string_view option) const { return value(option) == Value::built_in; }

 private:
  std::unordered_map<std::string, Value> values_;
};

}  // namespace minivm::boot

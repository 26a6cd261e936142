#include "boot/kernel_config.h"

#include <fmt/format.h>

#include <cstring>

namespace minivm::boot {

KernelConfig::Value KernelConfig::value(std::string_view option) const {
  const std::string wanted = fmt::format("{}=", option);
  std::string_view rest = text_;
  // memmem is several times as fast as std::string_view::find, which goes from one first letter to the next.
  while (const void* found = ::memmem(rest.data(), rest.size(), wanted.data(), wanted.size())) {
    const auto* line = static_cast<const char*>(found);
    rest = rest.substr(static_cast<std::size_t>(line - rest.data()) + wanted.size());
    if (line != text_.data() && line[-1] != '\n') continue;
    const std::string_view value = rest.substr(0, rest.find_first_of("\r\n"));
    if (value.empty() || value == "n") return Value::off;
    return value == "m" ? Value::module : Value::built_in;
  }
  return Value::off;
}

}  // namespace minivm::boot

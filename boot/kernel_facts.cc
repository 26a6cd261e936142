#include "boot/kernel_facts.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include "boot/unpack.h"

namespace minivm::boot {
namespace {

// kernel/configs.c: a gzip file between two markers.
constexpr std::string_view config_start = "IKCFG_ST";
constexpr std::string_view config_end = "IKCFG_ED";
constexpr std::string_view banner = "Linux version ";  // init/version-timestamp.c
constexpr std::size_t release_limit = 64;              // __NEW_UTS_LEN

// All after the next occurrence of `what`.
std::optional<std::string_view> after(std::string_view text, std::string_view what) noexcept {
  const void* found = ::memmem(text.data(), text.size(), what.data(), what.size());
  if (found == nullptr) return std::nullopt;
  return text.substr(static_cast<std::size_t>(static_cast<const char*>(found) - text.data()) + what.size());
}

std::string find_release(std::string_view text) {
  while (const auto rest = after(text, banner)) {
    text = *rest;
    const std::string_view release = text.substr(0, std::min(text.find(' '), release_limit));
    // Format strings begin alike, but no release begins with a percent sign.
    if (!release.empty() && release[0] >= '0' && release[0] <= '9') return std::string(release);
  }
  return {};
}

std::string find_config(std::string_view text) {
  while (const auto rest = after(text, config_start)) {
    text = *rest;
    const auto beyond = after(text, config_end);
    if (!beyond) return {};
    const auto size = static_cast<std::size_t>(beyond->data() - text.data()) - config_end.size();
    const auto packed = std::as_bytes(std::span(text.data(), size));
    if (recognise_compression(packed) != Compression::gzip) continue;
    const auto config = unpack(Compression::gzip, packed);
    if (config) return {reinterpret_cast<const char*>(config->data.get()), config->size};
  }
  return {};
}

}  // namespace

KernelFacts find_facts(std::span<const std::byte> image) {
  const std::string_view text(reinterpret_cast<const char*>(image.data()), image.size());
  return {.release = find_release(text), .config = find_config(text)};
}

}  // namespace minivm::boot

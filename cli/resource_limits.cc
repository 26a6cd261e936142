#include "cli/resource_limits.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <stdexcept>
#include <string>

namespace minivm {
namespace {

struct NamedResource {
  std::string_view name;
  int resource;
};

constexpr std::array<NamedResource, 16> resources{{{"as", RLIMIT_AS},
                                                   {"core", RLIMIT_CORE},
                                                   {"cpu", RLIMIT_CPU},
                                                   {"data", RLIMIT_DATA},
                                                   {"fsize", RLIMIT_FSIZE},
                                                   {"locks", RLIMIT_LOCKS},
                                                   {"memlock", RLIMIT_MEMLOCK},
                                                   {"msgqueue", RLIMIT_MSGQUEUE},
                                                   {"nice", RLIMIT_NICE},
                                                   {"nofile", RLIMIT_NOFILE},
                                                   {"nproc", RLIMIT_NPROC},
                                                   {"rss", RLIMIT_RSS},
                                                   {"rtprio", RLIMIT_RTPRIO},
                                                   {"rttime", RLIMIT_RTTIME},
                                                   {"sigpending", RLIMIT_SIGPENDING},
                                                   {"stack", RLIMIT_STACK}}};

template <typename T>
std::optional<T> parse_whole(std::string_view text, int base) {
  T number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc{} && end == text.data() + text.size() ? std::optional(number) : std::nullopt;
}

std::optional<std::uint64_t> parse_value(std::string_view text) {
  if (text == "unlimited" || text == "-1") return Limit::unlimited;
  return parse_whole<std::uint64_t>(text, 10);
}

std::string all_names() {
  std::string names;
  for (const NamedResource& each : resources) names += fmt::format("{}{}", names.empty() ? "" : ", ", each.name);
  return names;
}

}  // namespace

Limit parse_limit(std::string_view text) {
  const std::size_t equals = std::min(text.find('='), text.size());
  const std::string_view name = text.substr(0, equals);
  const auto resource = std::ranges::find(resources, name, &NamedResource::name);
  if (resource == resources.end()) throw std::invalid_argument(fmt::format("{}: not one of {}", name, all_names()));
  const std::string_view values = text.substr(std::min(equals + 1, text.size()));
  const std::size_t colon = values.find(':');
  const auto soft = parse_value(values.substr(0, colon));
  const auto hard = colon == values.npos ? soft : parse_value(values.substr(colon + 1));
  if (!soft || !hard) throw std::invalid_argument(fmt::format("{}: not {}=SOFT[:HARD] in numbers", text, name));
  if (*soft > *hard) throw std::invalid_argument(fmt::format("{}: the soft limit is above the hard one", text));
  return {.resource = resource->resource, .soft = *soft, .hard = *hard};
}

std::uint32_t parse_umask(std::string_view text) {
  const auto mask = parse_whole<std::uint32_t>(text, 8);
  if (!mask || *mask > 0777) throw std::invalid_argument(fmt::format("{}: not an octal number up to 777", text));
  return *mask;
}

}  // namespace minivm

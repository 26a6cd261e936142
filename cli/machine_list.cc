#include "cli/machine_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/log.h"
#include "vmm/machine_registry.h"

namespace minivm {
namespace {

using Json = nlohmann::ordered_json;

std::string_view name_of(MachineState state) {
  switch (state) {
    case MachineState::starting:
      return "starting";
    case MachineState::running:
      return "running";
    case MachineState::ended:
      return "ended";
  }
  return "";
}

/// "running", "ended (3)", "killed".
std::string status_of(const MachineEntry& entry) {
  if (!entry.end) return std::string(name_of(entry.state));
  return entry.end->killed ? "killed" : fmt::format("ended ({})", entry.end->exit_code);
}

std::string age_of(std::int64_t since) {
  const std::int64_t seconds = std::max<std::int64_t>(std::time(nullptr) - since, 0);
  if (seconds < 120) return fmt::format("{}s", seconds);
  if (seconds < 120 * 60) return fmt::format("{}m", seconds / 60);
  if (seconds < 48 * 3600) return fmt::format("{}h", seconds / 3600);
  return fmt::format("{}d", seconds / (24 * 3600));
}

/// The machine's own words may hold anything; a terminal gets to see only what can be printed.
std::string printable(std::string text) {
  std::ranges::replace_if(
      text, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7F'; }, '?');
  return text;
}

std::string join(const std::vector<std::string>& words) { return printable(fmt::format("{}", fmt::join(words, " "))); }

Json to_object(const MachineEntry& entry, const std::string& directory) {
  Json object = {{"name", entry.name}, {"state", name_of(entry.state)}, {"directory", directory}};
  object["machine"] = entry.record ? Json::parse(to_json(*entry.record)) : Json();
  object["end"] = entry.end ? Json::parse(to_json(*entry.end)) : Json();
  return object;
}

void print_json(const MachineRegistry& registry, const std::vector<MachineEntry>& entries) {
  Json list = Json::array();
  for (const MachineEntry& entry : entries) list.push_back(to_object(entry, registry.path_of(entry.name)));
  fmt::print("{}\n", list.dump(2));
}

void print_table(const std::vector<MachineEntry>& entries) {
  std::size_t width = 8;
  for (const MachineEntry& entry : entries) width = std::max(width, entry.name.size());
  fmt::print("{:{}}  {:11} {:>8} {:>5} {:>8} {:>5}  {}\n", "NAME", width, "STATUS", "PID", "CPUS", "MEMORY", "AGE",
             "COMMAND");
  for (const MachineEntry& entry : entries) {
    const MachineRecord record = entry.record.value_or(MachineRecord{});
    fmt::print("{:{}}  {:11} {:>8} {:>5} {:>7}M {:>5}  {}\n", entry.name, width, status_of(entry), record.pid,
               record.cpus, record.memory >> 20, age_of(record.created), join(record.command));
  }
}

void print_field(std::string_view name, std::string_view value) {
  if (!value.empty()) fmt::print("{:11} {}\n", name, value);
}

std::string format_time(std::int64_t seconds) {
  const auto time = static_cast<std::time_t>(seconds);
  std::tm local{};
  if (seconds == 0 || ::localtime_r(&time, &local) == nullptr) return {};
  std::array<char, 32> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &local)};
}

void print_text(const MachineRegistry& registry, const MachineEntry& entry) {
  print_field("name", entry.name);
  print_field("status", status_of(entry));
  if (const auto& record = entry.record) {
    print_field("pid", std::to_string(record->pid));
    print_field("created", format_time(record->created));
    print_field("kernel", record->kernel);
    print_field("cpus", std::to_string(record->cpus));
    print_field("memory", fmt::format("{} MiB", record->memory >> 20));
    print_field("vsock", fmt::format("cid {}", record->cid));
    print_field("images", join(record->images));
    print_field("command", join(record->command));
  }
  if (const auto& end = entry.end) {
    print_field("ended", format_time(end->ended));
    print_field("exit code", std::to_string(end->exit_code));
    print_field("reason", printable(end->reason));
    for (const std::string& line : end->console) print_field("console", printable(line));
  }
  print_field("directory", registry.path_of(entry.name));
}

}  // namespace

int list_command(const ListOptions& options) {
  const MachineRegistry registry;
  std::vector<MachineEntry> entries = registry.list();
  if (!options.all) {
    std::erase_if(entries, [](const MachineEntry& entry) { return entry.state == MachineState::ended; });
  }
  if (options.json) {
    print_json(registry, entries);
  } else if (options.names) {
    for (const MachineEntry& entry : entries) fmt::print("{}\n", entry.name);
  } else {
    print_table(entries);
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
}

int inspect_command(const InspectOptions& options) {
  const MachineRegistry registry;
  std::vector<MachineEntry> entries;
  bool all_found = true;
  for (const std::string& name : options.machines) {
    if (auto entry = registry.find(name)) {
      entries.push_back(*std::move(entry));
    } else {
      log::warning("machine {}: there is none", name);
      all_found = false;
    }
  }
  if (options.json) {
    print_json(registry, entries);
  } else {
    for (const MachineEntry& entry : entries) print_text(registry, entry);
  }
  return std::fflush(stdout) == 0 && all_found ? 0 : 1;
}

}  // namespace minivm

#include "cli/stats_command.h"

#include <fmt/format.h>
#include <poll.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>

#include "base/log.h"
#include "vmm/machine_client.h"

namespace minivm {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// Longer than the machine gives its guest.
constexpr auto answer_deadline = 10s;

MachineStatistics ask(const std::string& machine) {
  MachineClient client(machine);
  client.ask_statistics();
  std::optional<MachineStatistics> answer;
  for (const auto end = Clock::now() + answer_deadline; !answer;) {
    pollfd ready{client.fd(), POLLIN, 0};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() <= 0) throw std::runtime_error(fmt::format("machine {}: does not answer", machine));
    ::poll(&ready, 1, static_cast<int>(left.count()));
    if (ready.revents == 0) continue;
    if (!client.receive({.statistics = [&](const MachineStatistics& statistics) { answer = statistics; }}) && !answer) {
      throw std::runtime_error(fmt::format("machine {}: has ended", machine));
    }
  }
  return *answer;
}

nlohmann::ordered_json to_json(const std::string& machine, const MachineStatistics& statistics) {
  nlohmann::ordered_json json{{"name", machine}};
  for (const auto& [name, value] : statistics) json[name] = value;
  return json;
}

void print_text(const std::string& machine, const MachineStatistics& statistics) {
  fmt::print("{}\n", machine);
  for (const auto& [name, value] : statistics) fmt::print("  {:<27}{}\n", name, value);
}

}  // namespace

int stats_command(const StatsOptions& options) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  bool all_answered = true;
  for (const std::string& machine : options.machines) {
    try {
      const MachineStatistics statistics = ask(machine);
      if (options.json) {
        all.push_back(to_json(machine, statistics));
      } else {
        print_text(machine, statistics);
      }
    } catch (const std::exception& error) {
      log::warning("{}", error.what());
      all_answered = false;
    }
  }
  if (options.json) fmt::print("{}\n", all.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  return std::fflush(stdout) == 0 && all_answered ? 0 : 1;
}

}  // namespace minivm

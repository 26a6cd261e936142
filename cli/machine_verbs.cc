#include "cli/machine_verbs.h"

#include <fmt/format.h>
#include <poll.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>

#include "base/fd.h"
#include "base/log.h"
#include "vmm/exec_session.h"
#include "vmm/machine_client.h"
#include "vmm/machine_registry.h"

namespace minivm {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// Calls `act` for each machine; one that fails does not keep the others from their turn.
int for_each(const std::vector<std::string>& machines, const std::function<void(const std::string&)>& act) {
  int exit_code = 0;
  for (const std::string& machine : machines) {
    try {
      act(machine);
    } catch (const std::exception& error) {
      log::warning("{}", error.what());
      exit_code = 1;
    }
  }
  return exit_code;
}

/// What the machine's process said last; nothing when it ended without a word. `deadline` 0: for ever.
std::optional<int> wait_for_end(MachineClient& client, std::chrono::milliseconds deadline) {
  std::optional<int> exit_code;
  const auto end = Clock::now() + deadline;
  for (bool open = true; open;) {
    pollfd ready{client.fd(), POLLIN, 0};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
    if (deadline.count() > 0 && left.count() <= 0) {
      throw std::runtime_error(fmt::format("machine {}: has not ended in time", client.name()));
    }
    ::poll(&ready, 1, deadline.count() > 0 ? static_cast<int>(std::min<std::int64_t>(left.count(), 60'000)) : -1);
    if (ready.revents == 0) continue;
    open = client.receive({.ended = [&](int code) { exit_code = code; }});
  }
  if (!client.wait_until_gone(MachineClient::take_down_deadline)) {
    throw std::runtime_error(fmt::format("machine {}: its process does not end", client.name()));
  }
  return exit_code;
}

/// The machine to talk to; nothing when it has ended, or does while we come.
std::optional<MachineClient> reach(const std::string& machine) {
  try {
    return MachineClient(machine);
  } catch (const MachineEnded&) {
    return std::nullopt;
  }
}

int exit_code_of(const std::string& machine) {
  if (const auto entry = MachineRegistry().find(machine); entry && entry->end) return entry->end->exit_code;
  throw std::runtime_error(fmt::format("machine {}: ended, and left no word of how", machine));
}

void kill_machine(MachineClient& client) {
  client.kill();
  wait_for_end(client, MachineClient::take_down_deadline);
}

}  // namespace

int stop_command(const StopOptions& options) {
  return for_each(options.machines, [&](const std::string& machine) {
    auto client = reach(machine);
    if (!client) return;
    client->stop(options.deadline);
    wait_for_end(*client, options.deadline + MachineClient::take_down_deadline);
  });
}

int kill_command(const KillOptions& options) {
  return for_each(options.machines, [](const std::string& machine) {
    MachineClient client(machine);
    kill_machine(client);
  });
}

int remove_command(const RemoveOptions& options) {
  return for_each(options.machines, [&](const std::string& machine) {
    if (options.force) {
      if (auto client = reach(machine)) kill_machine(*client);
    }
    // One that was not to be kept is gone already.
    if (options.force && !MachineRegistry().find(machine)) return;
    MachineRegistry().remove(machine);
  });
}

int wait_command(const WaitOptions& options) {
  int last = 0;
  const int failed = for_each(options.machines, [&](const std::string& machine) {
    std::optional<int> exit_code;
    if (auto client = reach(machine)) {
      client->watch();
      exit_code = wait_for_end(*client, 0ms);
    }
    last = exit_code ? *exit_code : exit_code_of(machine);
    fmt::print("{}\n", last);
    std::fflush(stdout);
  });
  return failed != 0 ? ExecOutcome::launcher_failed : last;
}

}  // namespace minivm

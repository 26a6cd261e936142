#include "vmm/machine_client.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>

#include "tests/own_state_directory.h"
#include "vmm/machine_registry.h"

namespace minivm {
namespace {

using namespace std::chrono_literals;
using test::OwnStateDirectory;

/// How often this process has the lock of the machine at `path` open: once by its owner, once more by a client that
/// looks whether it lives.
int open_locks(const std::string& path) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code closed_meanwhile;
    if (std::filesystem::read_symlink(entry.path(), closed_meanwhile) == path + "/lock") ++count;
  }
  return count;
}

TEST_CASE("Without a machine there is nobody to talk to, and the error says why") {
  OwnStateDirectory state;
  MachineRegistry registry;
  CHECK_THROWS_WITH(MachineClient("nope"), "machine nope: there is none");
  CHECK_THROWS_WITH(MachineClient("../web"), "machine ../web: there is none");
  const Registration young = registry.add("young");
  CHECK_THROWS_WITH(MachineClient("young"), "machine young: is still being built");
  {
    Registration old = registry.add("old");
    old.describe({.name = "old"});
    old.keep({});
  }
  CHECK_THROWS_AS(MachineClient("old"), MachineEnded);
  CHECK_THROWS_WITH(MachineClient("old"), "machine old: has ended");
}

TEST_CASE("A client that comes while a machine is taken down waits for its end") {
  OwnStateDirectory state;
  const bool kept = GENERATE(true, false);
  std::optional<Registration> web(MachineRegistry().add("web"));
  web->describe({.name = "web", .ready = true, .kept = kept});
  web->listen().reset();
  std::atomic<bool> gone = false;
  std::jthread owner([&](const std::stop_token& stop) {
    while (open_locks(web->path()) < 2 && !stop.stop_requested()) std::this_thread::yield();
    if (kept) web->keep({.exit_code = 143});
    gone = true;
    web.reset();
  });
  CHECK_THROWS_AS(MachineClient("web"), MachineEnded);
  CHECK(gone);
  owner.request_stop();
  owner.join();
  const auto left = MachineRegistry().find("web");
  REQUIRE(left.has_value() == kept);
  if (kept) CHECK(left->end->exit_code == 143);
}

TEST_CASE("A waiting client learns when the machine's process has let go of everything") {
  OwnStateDirectory state;
  MachineRegistry registry;
  std::optional<Registration> web(registry.add("web"));
  const UniqueFd listener = web->listen();
  const MachineClient client("web");
  CHECK_FALSE(client.wait_until_gone(1ms));
  web.reset();
  CHECK(client.wait_until_gone(20s));
}

}  // namespace
}  // namespace minivm

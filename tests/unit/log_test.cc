#include "base/log.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

#include "tests/temporary_file.h"

using namespace minivm;

namespace {

// What reaches stderr while `act` runs.
template <typename Act>
std::string stderr_of(Act&& act) {
  const test::TemporaryFile file;
  const UniqueFd saved(::dup(STDERR_FILENO));
  const UniqueFd target = open_file(file.path(), O_WRONLY | O_APPEND);
  ::dup2(target.get(), STDERR_FILENO);
  act();
  ::dup2(saved.get(), STDERR_FILENO);
  return file.read(0, 4096);
}

}  // namespace

TEST_CASE("warnings always reach stderr as a line of minivm's; info and debug on request") {
  const auto all = [] {
    log::warning("disk {}: gone", 1);
    log::info("info");
    log::debug("debug");
  };
  CHECK(stderr_of(all) == "minivm: disk 1: gone\n");
  log::set_level(log::Level::info);
  CHECK(stderr_of(all) == "minivm: disk 1: gone\nminivm: info\n");
  log::set_level(log::Level::debug);
  CHECK(stderr_of(all) == "minivm: disk 1: gone\nminivm: info\nminivm: debug\n");
  log::set_level(log::Level::warning);
  CHECK(stderr_of(all) == "minivm: disk 1: gone\n");
}

TEST_CASE("a guest's faults are shown a few times and counted for ever") {
  log::FaultLimit faults;
  const std::string text = stderr_of([&] {
    for (int i = 0; i < 1000; ++i) faults.warning("fault {}", i);
  });
  CHECK(faults.count() == 1000);
  CHECK(text.find("minivm: fault 9\n") != std::string::npos);
  CHECK(text.find("fault 10") == std::string::npos);
  CHECK(text.find("not shown") != std::string::npos);
}

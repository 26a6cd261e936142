#include "cli/record.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <system_error>

#include "tests/scratch_directory.h"

namespace minivm {
namespace {

nlohmann::json recorded(const RunResult& result) {
  const test::ScratchDirectory directory;
  write_record(directory.path("record.json"), result, {.main = 7});
  return nlohmann::json::parse(directory.read("record.json"));
}

TEST_CASE("The record of a command that ended has its exit code and no error") {
  RunResult result;
  result.exit_code = 3;
  result.status = ExitStatus{.code = 3};
  result.timing.first_run = 100;
  result.timing.ready = 200;
  const auto record = recorded(result);
  CHECK(record["exit_code"] == 3);
  CHECK(record["signal"] == 0);
  CHECK(record["out_of_memory"] == false);
  CHECK(record["error"].is_null());
  CHECK(record["console"].empty());
  CHECK(record["timing"]["first_run_ns"] == 100);
  CHECK(record["timing"]["ready_ns"] == 200);
  CHECK(record["timing"]["main_ns"] == 7);
}

TEST_CASE("The record of a command that was killed has the signal") {
  RunResult result;
  result.exit_code = 137;
  result.status = ExitStatus{.code = 137, .signal = 9, .out_of_memory = true};
  const auto record = recorded(result);
  CHECK(record["exit_code"] == 137);
  CHECK(record["signal"] == 9);
  CHECK(record["out_of_memory"] == true);
}

TEST_CASE("The record of a guest that failed has the reason and the console's last lines") {
  RunResult result;
  result.exit_code = 125;
  result.failure = "the guest's kernel panicked";
  result.console_lines = {"one", "a \"quote\" \\ and \x01"};
  const auto record = recorded(result);
  CHECK(record["error"] == "the guest's kernel panicked");
  CHECK(record["console"] == result.console_lines);
  CHECK(record["timing"]["ready_ns"].is_null());
}

TEST_CASE("Bytes that are no UTF-8 do not break the record") {
  RunResult result;
  result.console_lines = {"ok", "\xFF\xC3"};
  const auto record = recorded(result);
  REQUIRE(record["console"].size() == 2);
  CHECK(record["console"][0] == "ok");
}

TEST_CASE("A record replaces an older one, however long that was") {
  const test::ScratchDirectory directory;
  const std::string path = directory.write("record.json", std::string(10'000, 'x'));
  write_record(path, {}, {});
  CHECK(nlohmann::json::accept(directory.read("record.json")));
}

TEST_CASE("A record that cannot be written names its file") {
  const test::ScratchDirectory directory;
  const std::string path = directory.path("none/record.json");
  CHECK_THROWS_WITH(write_record(path, {}, {}), Catch::Contains(path));
  CHECK_THROWS_WITH(write_record("/dev/full", {}, {}), Catch::Contains("/dev/full"));
}

}  // namespace
}  // namespace minivm

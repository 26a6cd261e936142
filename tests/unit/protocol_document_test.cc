// docs/protocol.md against the code: messages are encoded once by the code and once by the tables.
#include <array>
#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "protocol/copy.h"
#include "protocol/frame.h"
#include "protocol/guest_config.h"
#include "protocol/machine_socket.h"
#include "protocol/messages.h"

namespace minivm::protocol {
namespace {

using Strings = std::vector<std::string>;
using Limits = std::vector<ResourceLimit>;
using Numbers = std::vector<std::pair<std::string, std::uint64_t>>;
using Value = std::variant<std::uint64_t, std::string, Strings, Limits, Numbers>;
using Values = std::map<std::string, Value>;
using Rows = std::vector<Strings>;

std::string read(const std::string& path) {
  std::ifstream file(path);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The rows of the first table below the line `heading`, or of the one whose first row begins with `first` there.
Rows table(const std::string& heading, const std::string& first) {
  static const std::string document = read("docs/protocol.md");
  const std::size_t begin = document.find("\n" + heading + "\n");
  REQUIRE(begin != std::string::npos);
  const std::size_t header = document.find("\n| " + first + " |", begin);
  REQUIRE(header != std::string::npos);
  Rows rows;
  std::istringstream lines(document.substr(header + 1));
  std::string line;
  for (int number = 0; std::getline(lines, line) && line.starts_with("|"); ++number) {
    if (number < 2) continue;  // the header, and what divides it from the rows
    Strings cells;
    std::istringstream row(line.substr(1));
    for (std::string cell; std::getline(row, cell, '|');) {
      const std::size_t text = cell.find_first_not_of(' ');
      cells.push_back(text == cell.npos ? "" : cell.substr(text, cell.find_last_not_of(' ') - text + 1));
    }
    rows.push_back(cells);
  }
  return rows;
}

void put_strings(Writer& writer, const Strings& strings) {
  writer.put(static_cast<std::uint32_t>(strings.size()));
  for (const std::string& text : strings) writer.put_string(text);
}

void put(Writer& writer, const std::string& type, const Value& value) {
  const auto number = [&] { return std::get<std::uint64_t>(value); };
  if (type == "u16") return writer.put(static_cast<std::uint16_t>(number()));
  if (type == "u32") return writer.put(static_cast<std::uint32_t>(number()));
  if (type == "u64") return writer.put(number());
  if (type == "string") return writer.put_string(std::get<std::string>(value));
  if (type == "strings") return put_strings(writer, std::get<Strings>(value));
  if (type == "numbers") {
    const auto& numbers = std::get<Numbers>(value);
    writer.put(static_cast<std::uint32_t>(numbers.size()));
    for (const auto& [name, each] : numbers) {
      writer.put_string(name);
      writer.put(each);
    }
    return;
  }
  REQUIRE(type == "limits");
  const auto& limits = std::get<Limits>(value);
  writer.put(static_cast<std::uint32_t>(limits.size()));
  for (const ResourceLimit& limit : limits) {
    writer.put(limit.resource);
    writer.put(limit.soft);
    writer.put(limit.hard);
  }
}

/// The document's fields, in its order and types, with `values` by their names.
std::string by_document(const std::string& message, const Values& values) {
  std::array<std::byte, 4096> buffer;
  Writer writer(buffer);
  const Rows rows = table("### " + message, "field");
  CHECK(rows.size() == values.size());
  for (const Strings& row : rows) {
    INFO(message << "." << row[0]);
    REQUIRE(values.contains(row[0]));
    put(writer, row[1], values.at(row[0]));
  }
  REQUIRE(writer.ok());
  return {reinterpret_cast<const char*>(writer.written().data()), writer.written().size()};
}

template <typename Message>
std::string by_code(const Message& message) {
  std::array<std::byte, 4096> buffer;
  Writer writer(buffer);
  message.encode(writer);
  REQUIRE(writer.ok());
  return {reinterpret_cast<const char*>(writer.written().data()), writer.written().size()};
}

/// "name = number" for each enumerator of `name` in the header `file`.
std::set<std::pair<std::string, std::string>> enumerators(const std::string& file, const std::string& name) {
  const std::string text = read(file);
  const std::size_t begin = text.find("enum class " + name + " ");
  REQUIRE(begin != std::string::npos);
  const std::string body = text.substr(begin, text.find("};", begin) - begin);
  const std::regex enumerator("\\n  (\\w+) = (\\d+),");
  std::set<std::pair<std::string, std::string>> found;
  for (std::sregex_iterator each(body.begin(), body.end(), enumerator), end; each != end; ++each) {
    found.emplace((*each)[2], (*each)[1]);
  }
  REQUIRE(found.size() > 3);
  return found;
}

std::set<std::pair<std::string, std::string>> documented(const std::string& heading, const std::string& first) {
  std::set<std::pair<std::string, std::string>> found;
  for (const Strings& row : table(heading, first)) found.emplace(row[0], row[1]);
  return found;
}

TEST_CASE("The document's numbers are the code's") {
  CHECK(documented("## Frames", "type") == enumerators("protocol/frame.h", "FrameType"));
  CHECK(documented("## Copies", "type") == enumerators("protocol/copy.h", "RecordType"));
  CHECK(documented("### ExecFailed", "step | name") == enumerators("protocol/messages.h", "ExecStep"));
}

TEST_CASE("The document's frame header is the code's") {
  std::array<std::byte, FrameHeader::size> buffer;
  Writer writer(buffer);
  const Values values{
      {"length", std::uint64_t{1}}, {"type", std::uint64_t{17}}, {"flags", std::uint64_t{0}}, {"id", std::uint64_t{3}}};
  for (const Strings& row : table("## Frames", "offset")) {
    CHECK(std::to_string(writer.written().size()) == row[0]);
    put(writer, row[2], values.at(row[1]));
  }
  CHECK(std::string(reinterpret_cast<const char*>(buffer.data()), buffer.size()) ==
        by_code(FrameHeader{1, FrameType::exec, 3}));
}

TEST_CASE("The document's messages are the code's, field by field") {
  CHECK(by_document("Hello", {{"version", 1U}, {"init_started_ns", 2U}, {"sent_ns", 3U}}) == by_code(Hello{1, 2, 3}));
  CHECK(by_document("Welcome", {{"version", 1U}, {"realtime_ns", 2U}}) == by_code(Welcome{1, 2}));
  CHECK(by_document("Ready", {{"init_started_ns", 1U},
                              {"modules_loaded_ns", 2U},
                              {"root_mounted_ns", 3U},
                              {"ready_ns", 4U},
                              {"welcomed_ns", 5U}}) == by_code(Ready{1, 2, 3, 4, 5}));
  CHECK(by_document("Failed", {{"step", "a"}, {"object", "bc"}, {"error", 3U}}) == by_code(Failed{"a", "bc", 3}));
  CHECK(by_document("Started", {{"pid", 1U}}) == by_code(Started{1}));
  CHECK(by_document("ExecFailed", {{"step", 11U}, {"error", 2U}, {"object", "x"}}) ==
        by_code(ExecFailed{ExecStep::interpreter, 2, "x"}));
  CHECK(by_document("Exited", {{"flags", 1U}, {"value", 9U}}) == by_code(Exited{1, 9}));
  CHECK(by_document("Signal", {{"number", 15U}}) == by_code(Signal{15}));
  CHECK(by_document("Resize", {{"rows", 24U}, {"columns", 80U}}) == by_code(Resize{24, 80}));
  CHECK(by_document("SetTime", {{"realtime_ns", 5U}}) == by_code(SetTime{5}));
  CHECK(by_document("Refused", {{"exit_code", 125U}, {"reason", "x"}}) == by_code(Refused{125, "x"}));
  CHECK(by_document("Ended", {{"exit_code", 3U}}) == by_code(Ended{3}));
  CHECK(by_document("Stop", {{"deadline_ms", 4U}}) == by_code(Stop{4}));
  const Numbers numbers{{"a", 1}, {"bc", 2}};
  CHECK(by_document("Stats", {{"entries", numbers}}) == by_code(Stats{numbers}));
  CHECK(by_document("Begin", {{"version", 1U}, {"flags", 1U}}) == by_code(copy::Begin{1, 1}));
  CHECK(by_document("Hole", {{"size", 6U}}) == by_code(copy::Hole{6}));
  const copy::Entry entry{
      .mode = 1, .uid = 2, .gid = 3, .modified_s = 4, .modified_ns = 5, .name = "name", .target = "target"};
  CHECK(by_document("Entry", {{"mode", 1U},
                              {"uid", 2U},
                              {"gid", 3U},
                              {"modified_s", 4U},
                              {"modified_ns", 5U},
                              {"name", "name"},
                              {"target", "target"}}) == by_code(entry));
}

TEST_CASE("The document's exec is the code's") {
  Exec fixed;
  fixed.flags = 3;
  fixed.stdin_port = 4;
  fixed.stdout_port = 5;
  fixed.stderr_port = 6;
  fixed.program_port = 7;
  fixed.program_size = 8;
  fixed.rows = 9;
  fixed.columns = 10;
  fixed.user = "user";
  fixed.directory = "directory";
  fixed.umask = 11;
  fixed.limits.add({12, 13, 14});
  fixed.interpreter = "interpreter";
  const Strings argv{"a"};
  const Strings env{"b", "c"};
  const Strings libraries{"d", "e", "f"};
  CHECK(by_document("Exec", {{"flags", 3U},
                             {"stdin_port", 4U},
                             {"stdout_port", 5U},
                             {"stderr_port", 6U},
                             {"program_port", 7U},
                             {"program_size", 8U},
                             {"rows", 9U},
                             {"columns", 10U},
                             {"user", "user"},
                             {"directory", "directory"},
                             {"argv", argv},
                             {"env", env},
                             {"umask", 11U},
                             {"limits", Limits{{12, 13, 14}}},
                             {"interpreter", "interpreter"},
                             {"libraries", libraries}}) == by_code(ExecRequest<Strings>{fixed, argv, env, &libraries}));
}

TEST_CASE("The document's guest configuration is the code's") {
  const GuestConfig config{.root = GuestConfig::Root::disk,
                           .flags = 2,
                           .root_disk = "a",
                           .filesystems = "b",
                           .hostname = "c",
                           .init = "d",
                           .power_off_port = 3,
                           .power_off_value = 4,
                           .addresses = "e",
                           .gateways = "f",
                           .name_servers = "g"};
  CHECK(by_document("GuestConfig", {{"root", 1U},
                                    {"flags", 2U},
                                    {"root_disk", "a"},
                                    {"filesystems", "b"},
                                    {"hostname", "c"},
                                    {"init", "d"},
                                    {"power_off_port", 3U},
                                    {"power_off_value", 4U},
                                    {"addresses", "e"},
                                    {"gateways", "f"},
                                    {"name_servers", "g"}}) == by_code(config));
}

}  // namespace
}  // namespace minivm::protocol

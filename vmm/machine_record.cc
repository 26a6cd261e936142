#include "vmm/machine_record.h"

#include <ctime>
#include <nlohmann/json.hpp>

namespace minivm {
namespace {

using Json = nlohmann::ordered_json;

/// The guest's words may be any bytes.
std::string dump(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

/// `read` gets the object; a field that is missing or of another type makes it nothing.
template <typename Record, typename Read>
std::optional<Record> parse(const std::string& text, Read read) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  Record record;
  try {
    read(json, record);
  } catch (const Json::exception&) {
    return std::nullopt;
  }
  return record;
}

}  // namespace

std::string to_json(const MachineRecord& record) {
  return dump({{"name", record.name},
               {"pid", record.pid},
               {"created", record.created},
               {"ready", record.ready},
               {"kept", record.kept},
               {"kernel", record.kernel},
               {"cpus", record.cpus},
               {"memory", record.memory},
               {"cid", record.cid},
               {"images", record.images},
               {"command", record.command}});
}

std::string to_json(const EndRecord& record) {
  return dump({{"ended", record.ended},
               {"exit_code", record.exit_code},
               {"signal", record.signal},
               {"killed", record.killed},
               {"reason", record.reason},
               {"console", record.console}});
}

std::optional<MachineRecord> machine_from_json(const std::string& text) {
  return parse<MachineRecord>(text, [](const Json& json, MachineRecord& record) {
    json.at("name").get_to(record.name);
    json.at("pid").get_to(record.pid);
    json.at("created").get_to(record.created);
    json.at("ready").get_to(record.ready);
    json.at("kept").get_to(record.kept);
    json.at("kernel").get_to(record.kernel);
    json.at("cpus").get_to(record.cpus);
    json.at("memory").get_to(record.memory);
    json.at("cid").get_to(record.cid);
    json.at("images").get_to(record.images);
    json.at("command").get_to(record.command);
  });
}

std::optional<EndRecord> end_from_json(const std::string& text) {
  return parse<EndRecord>(text, [](const Json& json, EndRecord& record) {
    json.at("ended").get_to(record.ended);
    json.at("exit_code").get_to(record.exit_code);
    json.at("signal").get_to(record.signal);
    json.at("killed").get_to(record.killed);
    json.at("reason").get_to(record.reason);
    json.at("console").get_to(record.console);
  });
}

EndRecord end_of(const RunResult& result) {
  return {.ended = std::time(nullptr),
          .exit_code = result.exit_code,
          .signal = result.status ? result.status->signal : 0,
          .killed = false,
          .reason = result.failure,
          .console = result.console_lines};
}

}  // namespace minivm

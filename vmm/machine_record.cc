#include "vmm/machine_record.h"

#include <ctime>
#include <nlohmann/json.hpp>
#include <tuple>

namespace minivm {
namespace {

using Json = nlohmann::ordered_json;

/// The guest's words may be any bytes.
std::string dump(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

template <typename Record, typename Value>
struct Field {
  const char* name;
  Value Record::*value;
};
template <typename Record, typename Value>
Field(const char*, Value Record::*) -> Field<Record, Value>;  // clang 16 does not find it by itself

/// The fields of a record, in the order they are written in.
constexpr std::tuple machine_fields{Field{"name", &MachineRecord::name},       Field{"pid", &MachineRecord::pid},
                                    Field{"created", &MachineRecord::created}, Field{"ready", &MachineRecord::ready},
                                    Field{"kept", &MachineRecord::kept},       Field{"kernel", &MachineRecord::kernel},
                                    Field{"cpus", &MachineRecord::cpus},       Field{"memory", &MachineRecord::memory},
                                    Field{"cid", &MachineRecord::cid},         Field{"images", &MachineRecord::images},
                                    Field{"command", &MachineRecord::command}};
constexpr std::tuple end_fields{Field{"ended", &EndRecord::ended},   Field{"exit_code", &EndRecord::exit_code},
                                Field{"signal", &EndRecord::signal}, Field{"killed", &EndRecord::killed},
                                Field{"reason", &EndRecord::reason}, Field{"console", &EndRecord::console}};

template <typename Record, typename... Values>
std::string write(const Record& record, const std::tuple<Field<Record, Values>...>& fields) {
  Json json;
  std::apply([&](const auto&... field) { ((json[field.name] = record.*field.value), ...); }, fields);
  return dump(json);
}

/// Nothing when a field is missing or of another type.
template <typename Record, typename... Values>
std::optional<Record> parse(const std::string& text, const std::tuple<Field<Record, Values>...>& fields) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  Record record;
  try {
    std::apply([&](const auto&... field) { (json.at(field.name).get_to(record.*field.value), ...); }, fields);
  } catch (const Json::exception&) {
    return std::nullopt;
  }
  return record;
}

}  // namespace

std::string to_json(const MachineRecord& record) { return write(record, machine_fields); }

std::string to_json(const EndRecord& record) { return write(record, end_fields); }

std::optional<MachineRecord> machine_from_json(const std::string& text) { return parse(text, machine_fields); }

std::optional<EndRecord> end_from_json(const std::string& text) { return parse(text, end_fields); }

EndRecord end_of(const RunResult& result) {
  return {.ended = std::time(nullptr),
          .exit_code = result.exit_code,
          .signal = result.status ? result.status->signal : 0,
          .killed = false,
          .reason = result.failure,
          .console = result.console_lines};
}

}  // namespace minivm

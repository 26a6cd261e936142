#include "cli/record.h"

#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/fd.h"

namespace minivm {

namespace {

nlohmann::ordered_json timing_record(const ProcessStart& start, const Timing& timing) {
  nlohmann::ordered_json record;
  const auto stamp = [&record](const char* name, std::int64_t ns) {
    record[name] = ns == 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(ns);
  };
  stamp("exec_ns", start.exec);
  stamp("main_ns", start.main);
  stamp("options_ns", start.options);
  stamp("building_ns", timing.building);
  stamp("vm_created_ns", timing.vm_created);
  stamp("kernel_mapped_ns", timing.kernel_mapped);
  stamp("first_run_ns", timing.first_run);
  stamp("init_started_ns", timing.init_started);
  stamp("modules_loaded_ns", timing.modules_loaded);
  stamp("root_mounted_ns", timing.root_mounted);
  stamp("guest_ready_ns", timing.guest_ready);
  stamp("ready_ns", timing.ready);
  stamp("exec_started_ns", timing.exec_started);
  stamp("exec_ended_ns", timing.exec_ended);
  stamp("ended_ns", timing.ended);
  stamp("guest_error_ns", timing.guest_error);
  return record;
}

}  // namespace

void write_record(const std::string& path, const RunResult& result, const ProcessStart& start) {
  nlohmann::ordered_json record;
  record["exit_code"] = result.exit_code;
  record["signal"] = result.status ? result.status->signal : 0;
  record["out_of_memory"] = result.status && result.status->out_of_memory;
  record["error"] = result.failure.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(result.failure);
  record["console"] = result.console_lines;
  record["timing"] = timing_record(start, result.timing);
  // The guest's words may be any bytes.
  const std::string text = record.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  const UniqueFd file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) throw_errno(path);
}

}  // namespace minivm

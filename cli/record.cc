#include "cli/record.h"

#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/fd.h"

namespace minivm {

void write_record(const std::string& path, const RunResult& result) {
  nlohmann::ordered_json record;
  record["exit_code"] = result.exit_code;
  record["signal"] = result.status ? result.status->signal : 0;
  record["out_of_memory"] = result.status && result.status->out_of_memory;
  record["error"] = result.failure.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(result.failure);
  record["console"] = result.console_lines;
  record["first_run_ns"] = result.first_run_ns;
  record["ready_ns"] = result.ready_ns ? nlohmann::ordered_json(*result.ready_ns) : nlohmann::ordered_json();
  // The guest's words may be any bytes.
  const std::string text = record.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  const UniqueFd file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) throw_errno(path);
}

}  // namespace minivm

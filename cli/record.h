#pragma once

#include <string>

#include "cli/process_start.h"
#include "minivm/run.h"

namespace minivm {

/// Writes how a run ended as one JSON object: exit_code, signal, out_of_memory, error, console, and timing: each stamp
/// of ProcessStart and Timing under its name, null where it was not reached. Throws std::system_error that names the
/// file.
void write_record(const std::string& path, const RunResult& result, const ProcessStart& start);

}  // namespace minivm

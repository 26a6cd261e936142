#pragma once

#include <string>

#include "minivm/run.h"

namespace minivm {

/// Writes how a run ended as one JSON object: exit_code, signal, out_of_memory, error, console,
/// first_run_ns, ready_ns (both CLOCK_MONOTONIC).
/// Throws std::system_error that names the file.
void write_record(const std::string& path, const RunResult& result);

}  // namespace minivm

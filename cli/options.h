#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <variant>

#include "minivm/config.h"

namespace minivm {

/// Where the guest's serial console goes.
struct ConsoleChoice {
  enum class Kind : std::uint8_t { none, stdio, stderr_only, file };

  Kind kind = Kind::none;
  std::string path;
};

/// What `boot` and `run` have in common.
struct MachineOptions {
  MachineConfig machine;
  ConsoleChoice console;
  std::chrono::milliseconds timeout{0};  // 0: none
  std::string json_file;                 // where the record of how it ended goes; empty: nowhere
};

struct BootOptions : MachineOptions {};

struct RunOptions : MachineOptions {
  Command command;
};

struct DoctorOptions {
  bool json = false;
  bool quick = false;
  std::string kernel;
};

/// Said and done: help, version, or a complaint.
struct Finished {
  int exit_code = 0;
};

using Options = std::variant<BootOptions, RunOptions, DoctorOptions, Finished>;

/// Reads the command line. Prints help to stdout and complaints to stderr; otherwise has no side effects but the log
/// level.
Options parse_options(std::span<char*> arguments);

}  // namespace minivm

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "cli/process_start.h"
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
  std::string name;                      // under which others find it; empty: made up with `detach`, else none
  bool detach = false;                   // in the background
  bool remove = false;                   // with `detach`: nothing stays when it has ended
  bool timing = false;                   // tell when what was reached
  ProcessStart start;                    // main's word

  bool is_named() const noexcept { return detach || !name.empty(); }
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

/// Boots to be measured.
struct BenchOptions {
  std::uint32_t count = 20;
  bool json = false;
  std::vector<std::string> run_arguments;  // what follows `minivm run`
};

/// A command in a machine that runs.
struct ExecOptions {
  std::string machine;
  Command command;
  std::chrono::milliseconds timeout{0};  // 0: none
  bool detach = false;
};

/// One of the two is "NAME:PATH".
struct CopyOptions {
  std::string source;
  std::string destination;
};

struct ListOptions {
  bool all = false;  // those that have ended too
  bool json = false;
  bool names = false;  // nothing else
};

struct LogsOptions {
  std::string machine;
  bool console = false;  // the serial console instead of the command's output
  bool follow = false;
  std::optional<std::size_t> tail;  // lines; nothing: all
};

struct StopOptions {
  std::vector<std::string> machines;
  std::chrono::milliseconds deadline{10'000};
};

struct KillOptions {
  std::vector<std::string> machines;
};

struct WaitOptions {
  std::vector<std::string> machines;
};

struct RemoveOptions {
  std::vector<std::string> machines;
  bool force = false;  // end those that run
};

struct InspectOptions {
  std::vector<std::string> machines;
  bool json = false;
};

struct StatsOptions {
  std::vector<std::string> machines;
  bool json = false;
};

/// Said and done: help, version, or a complaint.
struct Finished {
  int exit_code = 0;
};

using Options =
    std::variant<BootOptions, RunOptions, ExecOptions, CopyOptions, ListOptions, LogsOptions, StopOptions, KillOptions,
                 WaitOptions, RemoveOptions, InspectOptions, StatsOptions, DoctorOptions, BenchOptions, Finished>;

/// Reads the command line. Prints help to stdout and complaints to stderr; otherwise has no side effects but the log
/// level.
Options parse_options(std::span<char*> arguments);

}  // namespace minivm

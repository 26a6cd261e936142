#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "minivm/run.h"

namespace minivm {

/// What a machine with a name says of itself while it runs: machine.json in its directory.
struct MachineRecord {
  std::string name;
  std::int64_t pid = 0;
  std::int64_t created = 0;  // seconds since the epoch
  bool ready = false;        // the guest has been ready
  bool kept = true;          // stays listed when it has ended
  std::string kernel;
  std::uint32_t cpus = 0;
  std::uint64_t memory = 0;  // bytes
  std::uint64_t cid = 0;
  std::vector<std::string> images;   // paths of the root's and the disks'
  std::vector<std::string> command;  // empty: the machine itself is the point
};

/// What is left of it: exit.json.
struct EndRecord {
  std::int64_t ended = 0;            // seconds since the epoch; 0: nobody knows
  int exit_code = 0;                 // of the process that ran it
  int signal = 0;                    // what ended the command; 0: none
  bool killed = false;               // that process was killed, and could not say more
  std::string reason;                // for people; empty when all went well
  std::vector<std::string> console;  // the last lines, when it failed
};

/// JSON text, and back; nothing when it is none of ours.
std::string to_json(const MachineRecord& record);
std::string to_json(const EndRecord& record);
std::optional<MachineRecord> machine_from_json(const std::string& text);
std::optional<EndRecord> end_from_json(const std::string& text);

EndRecord end_of(const RunResult& result);

}  // namespace minivm

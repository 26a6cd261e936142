#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "vmm/machine_record.h"
#include "vmm/state_directory.h"

namespace minivm {

/// A machine's place in the state directory, held by the process that runs the machine: while this object lives, the
/// machine does, for everybody who looks. Files: lock (held), socket, machine.json, exit.json, and logs.
class Registration {
 public:
  /// Called by MachineRegistry::add.
  Registration(StateDirectory state, UniqueFd directory, UniqueFd lock, std::string name);
  /// Removes the directory unless `keep` was called.
  ~Registration();
  Registration(Registration&&) noexcept = default;
  Registration& operator=(Registration&&) = delete;

  const std::string& name() const noexcept { return name_; }
  std::string path() const { return state_.path() + "/" + name_; }
  int directory() const noexcept { return directory_.get(); }

  /// The control socket, listening and non-blocking. Throws std::system_error.
  UniqueFd listen() const;
  /// What others see. Throws std::system_error.
  void describe(const MachineRecord& record) const;
  /// The machine has ended; the directory stays, with this and the logs.
  void keep(const EndRecord& end);

 private:
  StateDirectory state_;
  UniqueFd directory_;
  UniqueFd lock_;
  std::string name_;
  bool kept_ = false;
};

enum class MachineState : std::uint8_t { starting, running, ended };

/// A machine with a name, as another process sees it.
struct MachineEntry {
  std::string name;
  MachineState state = MachineState::starting;
  std::optional<MachineRecord> record;  // missing while it is being built
  std::optional<EndRecord> end;         // when it has ended
};

/// All machines with a name of this user. What a killed VMM left behind is settled by whoever sees it first: it is
/// marked as killed, or removed when the machine was not to be kept.
class MachineRegistry {
 public:
  MachineRegistry() = default;
  explicit MachineRegistry(StateDirectory state) : state_(std::move(state)) {}

  /// Takes a name, or makes one up when it is empty. Throws std::runtime_error: it is no name, or taken.
  Registration add(const std::string& name);
  std::vector<MachineEntry> list() const;
  std::optional<MachineEntry> find(const std::string& name) const;
  /// Throws std::runtime_error: there is none, or it runs.
  void remove(const std::string& name) const;
  std::string path_of(const std::string& name) const { return state_.path() + "/" + name; }

 private:
  std::optional<MachineEntry> examine(const std::string& name) const;
  std::string unused_name() const;

  StateDirectory state_;
};

}  // namespace minivm

#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/detach.h"
#include "cli/options.h"
#include "minivm/run.h"
#include "vmm/log_file.h"
#include "vmm/log_pipe.h"
#include "vmm/machine.h"
#include "vmm/machine_registry.h"
#include "vmm/machine_socket.h"

namespace minivm {

/// What makes a machine of `run` or `boot` one that others can find: its place in the state directory, its logs, and
/// the word to a parent that waits. Built before the machine, and destroyed after it.
class NamedMachine {
 public:
  /// Takes the name. `parent` is null for a machine in the foreground. Throws when the name is taken.
  NamedMachine(const MachineOptions& options, std::vector<std::string> command, WaitingParent* parent);

  /// Where the serial console goes.
  HostFile console();
  /// Where the command's streams go: to the log of a machine in the background, which has no stdin.
  Streams streams();

  /// Lets clients in, once the machine is built. The socket must be gone before the machine.
  std::unique_ptr<MachineSocket> open(Machine& machine, SocketClient::Requests requests);
  /// The guest is ready.
  void ready();
  /// What the caller waits for has happened.
  void release_parent();
  void ended(const RunResult& result, MachineSocket& socket);

 private:
  const MachineOptions& options_;
  WaitingParent* parent_;
  Registration registration_;
  MachineRecord record_;
  std::list<LogFile> files_;
  std::list<LogPipe> pipes_;
  Machine* machine_ = nullptr;
  bool released_ = false;
};

}  // namespace minivm

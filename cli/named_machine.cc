#include "cli/named_machine.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <utility>

#include "cli/console_choice.h"
#include "vmm/kernel_search.h"
#include "vmm/output_log.h"

namespace minivm {
namespace {

std::string absolute(const std::string& path) { return std::filesystem::absolute(path).lexically_normal().string(); }

MachineRecord describe_machine(const MachineOptions& options, std::string name, std::vector<std::string> command) {
  const MachineConfig& machine = options.machine;
  MachineRecord record{.name = std::move(name),
                       .pid = ::getpid(),
                       .created = std::time(nullptr),
                       .ready = false,
                       .kept = options.detach && !options.remove,
                       .kernel = absolute(find_kernel(machine).path),
                       .cpus = machine.cpus,
                       .memory = machine.memory,
                       .cid = machine.cid,
                       .images = {},
                       .command = std::move(command)};
  if (machine.root.kind == Root::Kind::disk) record.images.push_back(absolute(machine.root.disk.path));
  for (const Disk& disk : machine.disks) record.images.push_back(absolute(disk.path));
  return record;
}

/// Each client brings up to four descriptors, and the usual limit of 1024 is for programs that call select(2).
void allow_many_descriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

NamedMachine::NamedMachine(const MachineOptions& options, std::vector<std::string> command, WaitingParent* parent)
    : options_(options),
      parent_(parent),
      registration_(MachineRegistry().add(options.name)),
      record_(describe_machine(options, registration_.name(), std::move(command))) {
  registration_.describe(record_);
  allow_many_descriptors();
}

HostFile NamedMachine::console() {
  if (parent_ == nullptr || options_.console.kind != ConsoleChoice::Kind::none) return open_console(options_.console);
  LogFile& file = files_.emplace_back(registration_.directory(), console_log);
  LogPipe& pipe = pipes_.emplace_back([&file](std::span<const std::byte> bytes) { file.append(bytes); });
  return {pipe.take_writer(), HostFile::Direction::write};
}

Streams NamedMachine::streams() {
  if (parent_ == nullptr) return {};
  LogFile& file = files_.emplace_back(registration_.directory(), output_log);
  const auto add = [&](std::uint32_t stream) {
    return pipes_
        .emplace_back([&file, stream](std::span<const std::byte> bytes) { append_output(file, stream, bytes); })
        .writer();
  };
  return {.input = -1, .output = add(OutputRecord::to_stdout), .error = add(OutputRecord::to_stderr)};
}

std::unique_ptr<MachineSocket> NamedMachine::open(Machine& machine, SocketClient::Requests requests) {
  machine_ = &machine;
  for (LogPipe& pipe : pipes_) {
    pipe.take_writer();  // the machine has what it needs of it
    pipe.watch(machine.loop());
  }
  if (parent_ != nullptr) {
    parent_->watch(machine.loop(), [&machine] {
      machine.end({MachineEnd::Reason::stopped, "the process that waited for it ended"});
    });
  }
  requests.statistics = [&machine](auto on_statistics) { machine.statistics(std::move(on_statistics)); };
  return std::make_unique<MachineSocket>(registration_.listen(), machine.loop(), machine.channel(),
                                         std::move(requests));
}

void NamedMachine::ready() {
  record_.ready = true;
  registration_.describe(record_);
}

void NamedMachine::release_parent() {
  if (parent_ == nullptr) return;
  const UniqueFd log(::openat(registration_.directory(), vmm_log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  std::exchange(parent_, nullptr)->release(machine_->loop(), registration_.name(), log.get());
  released_ = true;
}

void NamedMachine::ended(const RunResult& result, MachineSocket& socket) {
  // One that never came up has told its caller, and leaves nothing behind.
  if (record_.kept && released_) registration_.keep(end_of(result));
  socket.announce_end(result.exit_code, result.failure.empty() ? "has ended" : result.failure);
}

}  // namespace minivm

#include "vmm/command_run.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "vmm/upload.h"

namespace minivm {
namespace {

using namespace std::chrono_literals;

/// How long a guest may take to sync and unmount before it is cut off.
constexpr auto power_off_deadline = 10s;
/// The channel breaks a moment before the guest's own end says why.
constexpr auto end_follows_loss = 500ms;
/// What the guest gets of a deadline to end its processes, sync and unmount.
constexpr auto guest_grace = 2s;
constexpr std::size_t shown_console_lines = 20;

/// Empty for a descriptor that is closed: the guest then gets /dev/null.
HostFile duplicate(int fd, HostFile::Direction direction) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  return copy ? HostFile(std::move(copy), direction) : HostFile();
}

CommandStreams open_streams(const Command& command, const Streams& streams) {
  CommandStreams opened;
  opened.input = duplicate(streams.input, HostFile::Direction::read);
  opened.output = duplicate(streams.output, HostFile::Direction::write);
  if (!command.tty) opened.error = duplicate(streams.error, HostFile::Direction::write);
  if (!command.upload.empty()) {
    Upload upload = open_upload(command.upload);
    opened.program = HostFile(std::move(upload.file), HostFile::Direction::read);
    opened.program_size = upload.size;
    opened.program_needs = std::move(upload.needs);
  }
  return opened;
}

/// Signals of which a second one is not passed on any more.
bool is_wish_to_end(int number) {
  return number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT;
}

/// Whether the guest can have changed anything that outlives it.
bool keeps_changes(const MachineConfig& config) {
  if (config.root.kind == Root::Kind::disk && !config.root.throw_away && !config.root.disk.read_only) return true;
  return std::ranges::any_of(config.disks, [](const Disk& disk) { return !disk.read_only; });
}

}  // namespace

std::string describe(const MachineEnd& end) {
  switch (end.reason) {
    case MachineEnd::Reason::power_off:
      return "the guest powered off";
    case MachineEnd::Reason::reset:
      return "the guest rebooted";
    case MachineEnd::Reason::panic:
      return "the guest's kernel panicked";
    case MachineEnd::Reason::host_failed:
      return end.detail + "; see minivm doctor";
    default:
      return end.detail;
  }
}

CommandRun::CommandRun(const MachineConfig& config, Command command, Options options)
    : config_(config),
      command_(std::move(command)),
      options_(std::move(options)),
      streams_(open_streams(command_, options_.streams)),
      machine_(config, std::move(options_.console), {.ready = [this] { on_ready(); }}) {}

RunResult CommandRun::run() {
  if (options_.timeout.count() > 0) machine_.loop().after(options_.timeout, [this] { on_timeout(); });
  const MachineEnd end = machine_.run();
  result_.timing = machine_.timing();
  result_.timing.exec_started = exec_started_ns_;
  result_.timing.exec_ended = exec_ended_ns_;
  if (!decided_ && stopping_) {
    result_.exit_code = 128 + SIGKILL;
    result_.failure = "the command did not end by SIGTERM";
  } else if (!decided_) {
    result_.exit_code = ExecOutcome::launcher_failed;
    result_.failure = exec_ ? describe(end) + " before the command ended" : describe(end);
    result_.console_lines = machine_.console().last_lines(shown_console_lines);
  }
  return std::move(result_);
}

void CommandRun::on_ready() {
  if (options_.on_start) options_.on_start();
  try {
    exec_ = machine_.channel().exec(
        command_, std::move(streams_), options_.rows, options_.columns,
        [this](const ExecOutcome& outcome) { on_outcome(outcome); }, options_.on_started);
  } catch (const std::exception& error) {
    stop_with(ExecOutcome::launcher_failed, error.what());
  }
}

void CommandRun::on_outcome(const ExecOutcome& outcome) {
  if (decided_) return;
  if (!outcome.status && outcome.launcher_code == ExecOutcome::launcher_failed && !machine_.channel().ready()) {
    machine_.loop().after(end_follows_loss, [this, outcome] { stop_with(outcome.launcher_code, outcome.failure); });
    return;
  }
  decided_ = true;
  exec_started_ns_ = outcome.started_ns;
  exec_ended_ns_ = outcome.ended_ns;
  result_.status = outcome.status;
  result_.exit_code = outcome.status ? outcome.status->code : outcome.launcher_code;
  result_.failure = outcome.failure;
  take_down();
}

void CommandRun::take_down() {
  const auto stop = [this] { machine_.end({MachineEnd::Reason::stopped, {}}); };
  if (!keeps_changes(config_) || !machine_.channel().ready()) return stop();
  machine_.channel().power_off();
  machine_.loop().after(power_off_deadline, stop);
}

void CommandRun::on_timeout() {
  stop_with(timed_out, fmt::format("timed out after {} s", static_cast<double>(options_.timeout.count()) / 1000));
}

void CommandRun::stop_with(int exit_code, std::string failure) {
  if (decided_) return;
  decided_ = true;
  result_.exit_code = exit_code;
  result_.failure = std::move(failure);
  take_down();
}

void CommandRun::signal(int number) {
  if (!exec_ && !is_wish_to_end(number)) return;
  if (exec_ && !decided_ && (!is_wish_to_end(number) || ++wishes_to_end_ == 1)) {
    machine_.channel().signal(*exec_, number);
    return;
  }
  if (!decided_) {
    decided_ = true;
    result_.exit_code = 128 + number;
  }
  machine_.end({MachineEnd::Reason::stopped, {}});
}

void CommandRun::suspend() {
  // Not SIGTSTP: the command leads a session of its own, so its group is an orphaned one, which that does not stop.
  signal(SIGSTOP);
}

void CommandRun::resume() {
  machine_.channel().set_time();
  signal(SIGCONT);
}

void CommandRun::stop(std::chrono::milliseconds deadline) {
  if (std::exchange(stopping_, true)) return;
  machine_.loop().after(deadline, [this] { kill(); });
  if (!exec_) return kill();
  machine_.channel().signal(*exec_, SIGTERM);
  machine_.loop().after(deadline - std::min<std::chrono::milliseconds>(deadline / 2, guest_grace), [this] {
    if (machine_.channel().ready()) machine_.channel().power_off();
  });
}

void CommandRun::kill() {
  stop_with(128 + SIGKILL, {});
  machine_.end({MachineEnd::Reason::stopped, {}});
}

void CommandRun::resize(std::uint16_t rows, std::uint16_t columns) {
  options_.rows = rows;
  options_.columns = columns;
  if (exec_) machine_.channel().resize(*exec_, rows, columns);
}

RunResult run(const MachineConfig& config, const Command& command, const Streams& streams) {
  CommandRun::Options options;
  options.streams = streams;
  return CommandRun(config, command, std::move(options)).run();
}

}  // namespace minivm

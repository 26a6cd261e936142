#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <exception>
#include <span>
#include <variant>

#include "base/clock.h"
#include "base/log.h"
#include "cli/bench_command.h"
#include "cli/boot_command.h"
#include "cli/copy_command.h"
#include "cli/doctor_command.h"
#include "cli/exec_command.h"
#include "cli/logs_command.h"
#include "cli/machine_list.h"
#include "cli/machine_verbs.h"
#include "cli/options.h"
#include "cli/process_start.h"
#include "cli/run_command.h"
#include "cli/stats_command.h"
#include "vmm/exec_session.h"
#include "vmm/upload.h"

namespace minivm {
namespace {

int execute(const BootOptions& options) { return boot_command(options); }
int execute(const RunOptions& options) { return run_command(options); }
int execute(const ExecOptions& options) { return exec_command(options); }
int execute(const CopyOptions& options) { return copy_command(options); }
int execute(const ListOptions& options) { return list_command(options); }
int execute(const LogsOptions& options) { return logs_command(options); }
int execute(const StopOptions& options) { return stop_command(options); }
int execute(const KillOptions& options) { return kill_command(options); }
int execute(const WaitOptions& options) { return wait_command(options); }
int execute(const RemoveOptions& options) { return remove_command(options); }
int execute(const InspectOptions& options) { return inspect_command(options); }
int execute(const StatsOptions& options) { return stats_command(options); }
int execute(const DoctorOptions& options) { return doctor_command(options); }
int execute(const BenchOptions& options) { return bench_command(options); }
int execute(const Finished& finished) { return finished.exit_code; }

/// What was closed by the caller becomes /dev/null: else the next file that is opened would take its place.
void open_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) < 0) [[maybe_unused]]
      const int null = ::open("/dev/null", O_RDWR);
  }
}

/// Where the host backs all memory by huge pages, the first push on a stack of the usual 8 MiB would zero 2 MiB.
void use_small_stacks() noexcept {
  constexpr std::size_t stack_size = 256U << 10;
  pthread_attr_t attributes;
  if (::pthread_attr_init(&attributes) != 0) return;
  if (::pthread_attr_setstacksize(&attributes, stack_size) == 0) ::pthread_setattr_default_np(&attributes);
  ::pthread_attr_destroy(&attributes);
}

/// The threads allocate little, and none of it for each request: one heap does, and each more would take system calls
/// and pages of its own.
void use_one_heap() noexcept { ::mallopt(M_ARENA_MAX, 1); }

}  // namespace
}  // namespace minivm

int main(int argc, char** argv) try {
  minivm::ProcessStart start = minivm::process_start();
  // A reader that goes away is an error of the one write, not the end of the machine.
  std::signal(SIGPIPE, SIG_IGN);
  minivm::open_standard_streams();
  minivm::use_small_stacks();
  minivm::use_one_heap();
  minivm::Options options = minivm::parse_options({argv, static_cast<std::size_t>(argc)});
  start.options = minivm::monotonic_ns();
  return std::visit(
      [&start](auto& chosen) {
        if constexpr (requires { chosen.start; }) chosen.start = start;
        return minivm::execute(chosen);
      },
      options);
} catch (const minivm::UploadError& error) {
  minivm::log::warning("{}", error.what());
  return error.exit_code();
} catch (const std::exception& error) {
  minivm::log::warning("{}", error.what());
  return minivm::ExecOutcome::launcher_failed;
}

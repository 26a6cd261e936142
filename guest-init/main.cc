/// PID 1 of every minivm guest: gets the machine ready, says so, and serves the host's exec requests. It never returns.

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <new>

#include "freestanding/mapping.h"
#include "guest-init/built_in.h"
#include "guest-init/channel.h"
#include "guest-init/clock.h"
#include "guest-init/config.h"
#include "guest-init/exec_server.h"
#include "guest-init/file.h"
#include "guest-init/hand_over.h"
#include "guest-init/modules.h"
#include "guest-init/mounts.h"
#include "guest-init/network.h"
#include "guest-init/page_reports.h"
#include "guest-init/power.h"
#include "guest-init/report.h"
#include "guest-init/root.h"
#include "guest-init/settings.h"
#include "guest-init/stream_listener.h"

namespace minivm::guest {
namespace {

using protocol::GuestConfig;

struct Boot {
  GuestConfig config;
  protocol::Ready stamps;
  Channel channel;
  Fd stream_listener;
  PageReports page_reports;
};

/// Each step only when all before it went well; the first failure is the one to tell.
template <typename... Steps>
Outcome in_turn(Steps&&... steps) noexcept {
  Outcome failure;
  static_cast<void>(((failure = steps(), !failure) && ...));
  return failure;
}

/// Up to where the host can be reached, if only to hear of a failure.
Outcome reach_host(Boot& boot) noexcept {
  Outcome failure = in_turn([] { return mount_kernel_filesystems(); },  //
                            [&] { return read_config(boot.config); },   //
                            [&] {
                              open_console();
                              set_verbose((boot.config.flags & GuestConfig::verbose) != 0);
                              return load_modules();
                            });
  open_console();
  boot.stamps.modules_loaded_ns = boot_time_ns();
  boot.page_reports = PageReports::of_small_parts();
  const Outcome unreachable =
      in_turn([&] { return boot.channel.connect(); }, [&] { return boot.channel.greet(boot.stamps); },
              [&] { return listen_for_streams(boot.stream_listener); });
  return failure ? failure : unreachable;
}

/// The program that becomes PID 1 instead of this one; empty when there is none.
Path chosen_init(const GuestConfig& config) noexcept {
  if (config.init.empty() && config.root == GuestConfig::Root::user) return "/init";
  return config.init;
}

Outcome prepare_root(Boot& boot, bool init_is_ours) noexcept {
  if (auto failure = enter_root(boot.config)) return failure;
  boot.stamps.root_mounted_ns = boot_time_ns();
  if (boot.config.root != GuestConfig::Root::user) mount_for_programs(init_is_ours);
  name_machine(boot.config.hostname);
  return set_up_network(boot.config, init_is_ours);
}

/// In a new process, which goes on as the exec server, while this one becomes the user's init.
Outcome give_pid_1_away(const Boot& boot, char** argv, const Path& init, Fd& init_proc) noexcept {
  init_proc = open_file("/proc", O_PATH | O_DIRECTORY);
  if (boot.config.root == GuestConfig::Root::user) unmount_kernel_filesystems();
  return hand_over(argv, init.c_str());
}

void serve(Boot& boot, int init_proc, int own_program) noexcept {
  set_limits();
  let_others_go_first();
  boot.stamps.ready_ns = boot_time_ns();
  boot.channel.send_ready(boot.stamps);
  Mapping memory(sizeof(ExecServer));
  if (!memory) return complain("serve", "exec requests", ENOMEM);
  auto* const server =
      new (memory.bytes().data()) ExecServer(boot.channel.release(), std::move(boot.stream_listener), take_stream,
                                             init_proc, own_program, std::move(boot.page_reports));
  switch (server->run()) {
    case ExecServer::End::power_off:
      return;
    case ExecServer::End::connection_lost:
      return complain("lost", "the host's control connection", 0);
    case ExecServer::End::malformed_frame:
      return complain("received", "a malformed frame from the host", 0);
  }
}

[[noreturn]] void run(char** argv) noexcept {
  Boot boot;
  boot.stamps.init_started_ns = boot_time_ns();
  block_signals();
  Outcome failure = reach_host(boot);
  // Before the root changes, out of whose sight this file then is.
  const Fd own_program = open_file("/proc/self/exe", O_PATH);
  const Path init = chosen_init(boot.config);
  Fd init_proc;
  if (!failure) failure = prepare_root(boot, init.empty());
  if (!failure && !init.empty()) failure = give_pid_1_away(boot, argv, init, init_proc);
  if (failure) {
    open_console();
    complain(failure->step, failure->object.view(), failure->error);
    boot.channel.send_failed(*failure);
  } else {
    serve(boot, init_proc.get(), own_program.get());
    if (init_proc) ask_init_to_power_off();
  }
  power_off({boot.config.power_off_port, boot.config.power_off_value});
}

}  // namespace
}  // namespace minivm::guest

int main(int argc, char** argv) {
  if (getpid() != 1) return minivm::guest::run_built_in(argc, argv);
  minivm::guest::run(argv);
}

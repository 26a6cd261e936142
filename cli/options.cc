#include "cli/options.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <stdexcept>

#include "base/log.h"
#include "cli/units.h"
#include "minivm/version.h"

namespace minivm {
namespace {

constexpr int usage_error = 125;  // as docker: a command's own exit codes stay below

/// FILE, FILE:ro or FILE:rw. `default_access` holds where the suffix is missing.
enum class Access : std::uint8_t { unsaid, read_only, read_write };

std::pair<Disk, Access> parse_disk(const std::string& text) {
  const auto with_suffix = [&](std::string_view suffix) {
    return text.size() > suffix.size() && text.ends_with(suffix);
  };
  if (with_suffix(":ro")) return {{text.substr(0, text.size() - 3), true}, Access::read_only};
  if (with_suffix(":rw")) return {{text.substr(0, text.size() - 3), false}, Access::read_write};
  return {{text, false}, Access::unsaid};
}

ConsoleChoice parse_console(const std::string& text) {
  using Kind = ConsoleChoice::Kind;
  if (text == "none") return {Kind::none, {}};
  if (text == "stdio") return {Kind::stdio, {}};
  if (text == "stderr") return {Kind::stderr_only, {}};
  if (text.starts_with("file:") && text.size() > 5) return {Kind::file, text.substr(5)};
  throw std::invalid_argument(text + ": not none, stdio, stderr or file:PATH");
}

/// "K=V", or "K" with minivm's own value; nothing when that is unset.
void add_environment(const std::string& text, std::vector<std::string>& env) {
  if (text.starts_with('=')) throw std::invalid_argument(text + ": no name before =");
  if (text.contains('=')) {
    env.push_back(text);
  } else if (const char* value = std::getenv(text.c_str())) {
    env.push_back(text + "=" + value);
  }
}

DeviceDiscovery parse_discovery(const std::string& text) {
  if (text == "auto") return DeviceDiscovery::automatic;
  if (text == "acpi") return DeviceDiscovery::acpi;
  if (text == "fdt") return DeviceDiscovery::fdt;
  if (text == "cmdline") return DeviceDiscovery::command_line;
  throw std::invalid_argument(fmt::format("{}: not auto, acpi, fdt or cmdline", text));
}

std::uint64_t parse_memory(const std::string& text) {
  constexpr std::uint64_t granule = std::uint64_t{2} << 20;
  const std::uint64_t bytes = parse_size(text) / granule * granule;
  const auto pages = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES));
  const std::uint64_t host = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (bytes < MachineConfig::min_memory) {
    throw std::invalid_argument(fmt::format("{}: less than {} MiB", text, MachineConfig::min_memory >> 20));
  }
  if (bytes > host) throw std::invalid_argument(fmt::format("{}: the host has {} MiB", text, host >> 20));
  return bytes;
}

/// An option whose every value goes through `parse`; what that throws becomes a complaint that names the option.
template <typename Parse>
CLI::Option* add_parsed(CLI::App& command, const std::string& names, const std::string& help, Parse parse) {
  const std::string name = names.substr(0, names.find(','));
  const auto parse_all = [name, parse](const CLI::results_t& values) {
    for (const std::string& value : values) {
      try {
        parse(value);
      } catch (const std::invalid_argument& error) {
        throw CLI::ValidationError(name, error.what());
      }
    }
    return true;
  };
  return command.add_option(names, parse_all, help);
}

/// CLI11 does not know of the words that `run` leaves to the command.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* app, std::string name) const override {
    std::string usage = CLI::Formatter::make_usage(app, std::move(name));
    if (app->get_name() != "run") return usage;
    return usage.substr(0, usage.find_last_not_of('\n') + 1) + " [--] COMMAND [ARG...]\n";
  }
};

class CommandLine {
 public:
  CommandLine();
  Options parse(std::span<char*> arguments);

 private:
  void add_machine_options(CLI::App& command, MachineOptions& options);
  void add_kernel_options(CLI::App& command, MachineOptions& options);
  void add_root_options(CLI::App& command, MachineOptions& options);
  void add_boot();
  void add_run();
  void add_doctor();
  void settle_root(MachineOptions& options, bool throw_away_by_default);
  Options result();

  CLI::App app_{"Real Linux machines in the time it takes to start a process.", "minivm"};
  CLI::App* boot_ = nullptr;
  CLI::App* run_ = nullptr;
  CLI::App* doctor_ = nullptr;
  BootOptions boot_options_;
  RunOptions run_options_;
  DoctorOptions doctor_options_;
  Access root_access_ = Access::unsaid;
  bool ephemeral_ = false;
  int verbosity_ = 0;
  bool force_tty_ = false;
  bool no_tty_ = false;
  bool interactive_ = false;
  bool marked_ = false;                     // there was a --
  std::vector<std::string> command_words_;  // after it
};

CommandLine::CommandLine() {
  app_.set_version_flag("--version", std::string("minivm ") + version);
  app_.require_subcommand(1);
  app_.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app_.formatter(std::make_shared<HelpFormatter>());
  app_.failure_message([](const CLI::App* app, const CLI::Error& error) {
    const auto chosen = app->get_subcommands();
    const std::string name = chosen.empty() ? "minivm" : "minivm " + chosen.front()->get_name();
    return fmt::format("minivm: {}\nminivm: see {} --help\n", error.what(), name);
  });
  add_run();
  add_boot();
  add_doctor();
  app_.footer(
      "Examples:\n"
      "  minivm run -- uname -a                              a command in the default guest\n"
      "  minivm run --rootfs debian.img -- make test         in an image, which stays as it is\n"
      "  minivm boot --kernel bzImage --rootfs distro.img    a whole machine on this terminal\n"
      "  minivm doctor                                       what this host can do, and what to mend\n");
}

void CommandLine::add_kernel_options(CLI::App& command, MachineOptions& options) {
  MachineConfig& machine = options.machine;
  constexpr const char* group = "Kernel";
  command
      .add_option("--kernel,-k", machine.kernel,
                  "bzImage or ELF vmlinux\n(default: $MINIVM_KERNEL, minivm's own, the host's)")
      ->type_name("FILE")
      ->group(group);
  command.add_option("--modules", machine.modules, "its modules (default: beside it, or /lib/modules/RELEASE)")
      ->type_name("DIR")
      ->group(group);
  command
      .add_option("--initrd", machine.initrd, "an initramfs to unpack over minivm's; without --rootfs it is the root")
      ->type_name("FILE")
      ->group(group);
  command.add_option("--append", machine.append, "more words for the kernel command line")
      ->type_name("WORDS")
      ->group(group);
  add_parsed(command, "--discovery", "how the guest learns of its devices: auto, acpi, fdt, cmdline",
             [&machine](const std::string& text) { machine.discovery = parse_discovery(text); })
      ->type_name("HOW")
      ->group(group);
  command.add_flag("--kaslr", machine.in_guest_unpack, "let the kernel unpack itself, at a random address (slower)")
      ->group(group);
}

void CommandLine::add_root_options(CLI::App& command, MachineOptions& options) {
  constexpr const char* group = "Root and disks";
  add_parsed(command, "--rootfs,-r", "a raw image with the root file system",
             [this, &options](const std::string& text) {
               std::tie(options.machine.root.disk, root_access_) = parse_disk(text);
               options.machine.root.kind = Root::Kind::disk;
             })
      ->type_name("FILE[:ro|:rw]")
      ->group(group);
  command.add_flag("--ephemeral", ephemeral_, "keep changes to the root in the guest's RAM, gone with it")
      ->group(group);
  add_parsed(command, "--disk", "one more raw image; may be given again",
             [&options](const std::string& text) { options.machine.disks.push_back(parse_disk(text).first); })
      ->type_name("FILE[:ro]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group(group);
}

void CommandLine::add_machine_options(CLI::App& command, MachineOptions& options) {
  add_kernel_options(command, options);
  add_root_options(command, options);
  MachineConfig& machine = options.machine;
  constexpr const char* group = "Machine";
  command.add_option("--cpus,-c", machine.cpus, "virtual CPUs (default 1)")
      ->check(CLI::Range(1U, MachineConfig::max_cpus).description(""))
      ->type_name("N")
      ->group(group);
  add_parsed(command, "--memory,-m", "RAM, taken from the host as the guest uses it (default 1G)",
             [&machine](const std::string& text) { machine.memory = parse_memory(text); })
      ->type_name("SIZE")
      ->group(group);
  command.add_option("--cid", machine.cid, "the guest's vsock address (default 3)")
      ->check(CLI::Range(MachineConfig::min_cid, std::uint64_t{0xFFFF'FFFE}).description(""))
      ->type_name("N")
      ->group(group);
  command.add_option("--hostname", machine.hostname, "(default minivm)")->type_name("NAME")->group(group);
  command.add_option("--init", machine.init, "becomes PID 1, for instance /sbin/init")->type_name("PATH")->group(group);
  add_parsed(command, "--console", "where the serial console goes: none, stdio, stderr, file:PATH",
             [&options](const std::string& text) { options.console = parse_console(text); })
      ->type_name("WHERE")
      ->group(group);
  add_parsed(command, "--boot-timeout", "how long the guest may take to get ready (default 60s, 0: for ever)",
             [&machine](const std::string& text) { machine.boot_deadline = parse_duration(text); })
      ->type_name("TIME")
      ->group(group);
  add_parsed(command, "--timeout", "end everything after this long, with exit code 124",
             [&options](const std::string& text) { options.timeout = parse_duration(text); })
      ->type_name("TIME");
  command.add_option("--json", options.json_file, "write a record of how it ended")->type_name("FILE");
  command.add_flag("--verbose,-v", verbosity_, "tell what is done; twice: the guest too");
}

void CommandLine::add_boot() {
  boot_ = app_.add_subcommand("boot", "Boot a whole machine, with its console on this terminal");
  boot_options_.console.kind = ConsoleChoice::Kind::stdio;
  add_machine_options(*boot_, boot_options_);
  boot_->footer(
      "A root image is written to unless it ends in :ro or --ephemeral is given; its own init runs (--init to "
      "choose).\n"
      "On a terminal all keys go to the guest; Ctrl-A x ends the machine, Ctrl-A Ctrl-A sends Ctrl-A.\n"
      "Exit code: 0 the guest powered off or rebooted, 125 it failed, 124 --timeout, 128+N signal N.\n");
}

void CommandLine::add_run() {
  run_ = app_.add_subcommand("run", "Run one command in a machine of its own, gone afterwards");
  add_machine_options(*run_, run_options_);
  Command& command = run_options_.command;
  add_parsed(*run_, "--env,-e", "set a variable; K alone passes minivm's own value; may be given again",
             [&command](const std::string& text) { add_environment(text, command.env); })
      ->type_name("K[=V]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group("Command");
  run_->add_option("--cwd,--workdir,-w", command.directory, "working directory in the guest")
      ->type_name("DIR")
      ->group("Command");
  run_->add_option("--user,-u", command.user, "run as this user")->type_name("USER[:GROUP]")->group("Command");
  run_->add_option("--upload", command.upload, "send this ELF64 program of the host along, and run it as the command")
      ->type_name("FILE")
      ->group("Command");
  run_->add_flag("--tty,-t", force_tty_, "give the command a terminal (default: when stdin and stdout are one)")
      ->group("Command");
  run_->add_flag("--no-tty,-T", no_tty_, "never do that")->group("Command");
  run_->add_flag("--interactive,-i", interactive_, "accepted; stdin is always passed on")->group("Command");
  run_->prefix_command();
  run_->footer(
      "A root image stays as it is: changes are kept in the guest's RAM, unless it ends in :rw.\n"
      "Exit code: the command's own; 128+N killed by signal N; 127 not found; 126 not executable; 125 minivm or the\n"
      "guest failed; 124 --timeout.\n");
}

void CommandLine::add_doctor() {
  doctor_ = app_.add_subcommand("doctor", "Check what this host can do, and say how to mend what it cannot");
  doctor_->add_flag("--json", doctor_options_.json, "print the findings as JSON");
  doctor_->add_flag("--quick", doctor_options_.quick, "only check KVM itself");
  doctor_->add_option("--kernel,-k", doctor_options_.kernel, "the kernel to check")->type_name("FILE");
  doctor_->footer("Exit code: 0 when minivm run works here, 1 when it would fail.\n");
}

Options CommandLine::parse(std::span<char*> arguments) {
  // What follows the first -- is the command's, to the letter; so is the -- itself after a word of the command.
  const auto mark = std::ranges::find_if(arguments, [](const char* word) { return std::string_view(word) == "--"; });
  const auto own = static_cast<std::size_t>(mark - arguments.begin());
  marked_ = mark != arguments.end();
  if (marked_) command_words_.assign(mark + 1, arguments.end());
  try {
    app_.parse(static_cast<int>(own), arguments.data());
  } catch (const CLI::ParseError& error) {
    return Finished{app_.exit(error, std::cout, std::cerr) == 0 ? 0 : usage_error};
  }
  log::set_level(verbosity_ == 0 ? log::Level::warning : verbosity_ == 1 ? log::Level::info : log::Level::debug);
  try {
    return result();
  } catch (const std::invalid_argument& error) {
    log::warning("{}", error.what());
    return Finished{usage_error};
  }
}

void CommandLine::settle_root(MachineOptions& options, bool throw_away_by_default) {
  Root& root = options.machine.root;
  if (root.kind == Root::Kind::built_in && !options.machine.initrd.empty()) root.kind = Root::Kind::initrd;
  if (ephemeral_ && root_access_ == Access::read_write) {
    throw std::invalid_argument("--ephemeral and a --rootfs that ends in :rw exclude each other");
  }
  root.throw_away =
      root.kind == Root::Kind::disk && (ephemeral_ || (throw_away_by_default && root_access_ == Access::unsaid));
  options.machine.verbose_guest = verbosity_ >= 2;
}

Options CommandLine::result() {
  if (!run_->parsed() && !command_words_.empty()) throw std::invalid_argument("only run takes a command");
  if (doctor_->parsed()) return doctor_options_;
  if (boot_->parsed()) {
    settle_root(boot_options_, false);
    if (boot_options_.machine.init.empty() && boot_options_.machine.root.kind == Root::Kind::disk) {
      boot_options_.machine.init = "/sbin/init";
    }
    return boot_options_;
  }
  settle_root(run_options_, true);
  Command& command = run_options_.command;
  command.argv = run_->remaining();
  // CLI11 takes an option that it does not know for the command's first word.
  if (!command.argv.empty() && command.argv.front().starts_with('-')) {
    throw std::invalid_argument(fmt::format("run: no option {}; see minivm run --help", command.argv.front()));
  }
  // Behind the first word, as in `git checkout -- file`, it is no mark but one more word.
  if (!command.argv.empty() && marked_) command.argv.emplace_back("--");
  command.argv.insert(command.argv.end(), command_words_.begin(), command_words_.end());
  if (command.argv.empty() && !command.upload.empty()) command.argv = {command.upload};
  if (command.argv.empty()) throw std::invalid_argument("run: no command given; see minivm run --help");
  command.tty = force_tty_ || (!no_tty_ && ::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0);
  return run_options_;
}

}  // namespace

Options parse_options(std::span<char*> arguments) { return CommandLine().parse(arguments); }

}  // namespace minivm

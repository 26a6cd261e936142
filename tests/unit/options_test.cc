#include "cli/options.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/log.h"

namespace minivm {
namespace {

using namespace std::chrono_literals;
using Words = std::vector<std::string>;

/// As from a shell: `words` follow "minivm".
Options parse(Words words) {
  words.insert(words.begin(), "minivm");
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  Options options = parse_options(arguments);
  log::set_level(log::Level::warning);
  return options;
}

RunOptions parse_run(Words words) {
  words.insert(words.begin(), "run");
  const Options options = parse(std::move(words));
  REQUIRE(std::holds_alternative<RunOptions>(options));
  return std::get<RunOptions>(options);
}

BootOptions parse_boot(Words words) {
  words.insert(words.begin(), "boot");
  const Options options = parse(std::move(words));
  REQUIRE(std::holds_alternative<BootOptions>(options));
  return std::get<BootOptions>(options);
}

/// The exit code of a command line that starts nothing.
int finished(Words words) {
  const Options options = parse(std::move(words));
  REQUIRE(std::holds_alternative<Finished>(options));
  return std::get<Finished>(options).exit_code;
}

TEST_CASE("Help and version are said, and that is a success") {
  CHECK(finished({"--help"}) == 0);
  CHECK(finished({"--version"}) == 0);
  for (const char* command : {"run", "boot", "doctor"}) CHECK(finished({command, "--help"}) == 0);
}

TEST_CASE("A command line that says nothing to do is refused") {
  CHECK(finished({}) == 125);
  CHECK(finished({"fly"}) == 125);
  CHECK(finished({"run"}) == 125);
  CHECK(finished({"run", "--"}) == 125);
  CHECK(finished({"run", "--cpus", "2"}) == 125);
}

TEST_CASE("An option that does not exist is refused") {
  CHECK(finished({"run", "--bogus", "ls"}) == 125);
  CHECK(finished({"run", "--bogus", "--", "ls"}) == 125);
  CHECK(finished({"run", "-Z", "ls"}) == 125);
  CHECK(finished({"boot", "--bogus"}) == 125);
  CHECK(finished({"doctor", "--bogus"}) == 125);
}

TEST_CASE("Only run takes a command") {
  CHECK(finished({"boot", "ls"}) == 125);
  CHECK(finished({"boot", "--", "ls"}) == 125);
  CHECK(finished({"doctor", "--", "ls"}) == 125);
}

TEST_CASE("An option without its value is refused") {
  for (const char* option : {"--kernel", "--memory", "--cpus", "--rootfs", "--disk", "--console", "--timeout", "-e"}) {
    CAPTURE(option);
    CHECK(finished({"run", option}) == 125);
  }
}

TEST_CASE("The command starts at the first word that is no option of minivm") {
  CHECK(parse_run({"uname", "-a"}).command.argv == Words{"uname", "-a"});
  const RunOptions options = parse_run({"-c", "2", "tool", "-c", "3", "--memory=x", "--help"});
  CHECK(options.machine.cpus == 2);
  CHECK(options.command.argv == Words{"tool", "-c", "3", "--memory=x", "--help"});
}

TEST_CASE("What follows -- is the command, to the letter") {
  CHECK(parse_run({"--", "ls", "--help"}).command.argv == Words{"ls", "--help"});
  CHECK(parse_run({"--cpus", "2", "--", "-odd", ""}).command.argv == Words{"-odd", ""});
  CHECK(parse_run({"--", "git", "checkout", "--", "file"}).command.argv == Words{"git", "checkout", "--", "file"});
}

TEST_CASE("A -- behind the command's first word is the command's own") {
  CHECK(parse_run({"git", "checkout", "--", "file"}).command.argv == Words{"git", "checkout", "--", "file"});
  CHECK(parse_run({"-c", "2", "sh", "-c", "x", "--"}).command.argv == Words{"sh", "-c", "x", "--"});
}

TEST_CASE("Without options everything has its default") {
  const RunOptions run = parse_run({"true"});
  CHECK(run.machine.cpus == 1);
  CHECK(run.machine.memory == MachineConfig::default_memory);
  CHECK(run.machine.cid == MachineConfig::min_cid);
  CHECK(run.machine.hostname == "minivm");
  CHECK(run.machine.discovery == DeviceDiscovery::automatic);
  CHECK(run.machine.root.kind == Root::Kind::built_in);
  CHECK_FALSE(run.machine.root.throw_away);
  CHECK(run.machine.boot_deadline == 60s);
  CHECK(run.machine.init.empty());
  CHECK_FALSE(run.machine.verbose_guest);
  CHECK_FALSE(run.machine.in_guest_unpack);
  CHECK(run.timeout == 0ms);
  CHECK(run.console.kind == ConsoleChoice::Kind::none);
  CHECK(parse_boot({}).console.kind == ConsoleChoice::Kind::stdio);
}

TEST_CASE("The kernel's options are kept as they are said") {
  const MachineConfig machine =
      parse_run({"-k", "bzImage", "--modules", "mods", "--append", "a=1 b", "--kaslr", "ls"}).machine;
  CHECK(machine.kernel == "bzImage");
  CHECK(machine.modules == "mods");
  CHECK(machine.append == "a=1 b");
  CHECK(machine.in_guest_unpack);
  CHECK(parse_boot({"--kernel=vmlinux"}).machine.kernel == "vmlinux");
}

TEST_CASE("Device discovery has four names and no numbers") {
  const auto discovery = [](const char* how) { return parse_run({"--discovery", how, "ls"}).machine.discovery; };
  CHECK(discovery("auto") == DeviceDiscovery::automatic);
  CHECK(discovery("acpi") == DeviceDiscovery::acpi);
  CHECK(discovery("fdt") == DeviceDiscovery::fdt);
  CHECK(discovery("cmdline") == DeviceDiscovery::command_line);
  for (const char* how : {"bogus", "ACPI", "7"}) {
    CAPTURE(how);
    CHECK(finished({"run", "--discovery", how, "ls"}) == 125);
  }
}

TEST_CASE("Statistics are of machines that are named") {
  CHECK(finished({"stats"}) == 125);
  CHECK(finished({"stats", "--no-such-option", "one"}) == 125);
  CHECK(finished({"stats", "--help"}) == 0);
}

TEST_CASE("The console's port has three names") {
  const auto port = [](const char* what) { return parse_run({"--console-port", what, "ls"}).machine.console_port; };
  CHECK(parse_run({"ls"}).machine.console_port == ConsolePort::serial);
  CHECK(port("auto") == ConsolePort::automatic);
  CHECK(port("serial") == ConsolePort::serial);
  CHECK(port("virtio") == ConsolePort::virtio);
  CHECK(finished({"run", "--console-port", "hvc0", "ls"}) == 125);
}

TEST_CASE("A transport has three names") {
  const auto transport = [](const char* how) { return parse_run({"--transport", how, "ls"}).machine.transport; };
  CHECK(parse_run({"ls"}).machine.transport == DeviceTransport::automatic);
  CHECK(transport("auto") == DeviceTransport::automatic);
  CHECK(transport("mmio") == DeviceTransport::mmio);
  CHECK(transport("pci") == DeviceTransport::pci);
  CHECK(finished({"run", "--transport", "isa", "ls"}) == 125);
}

TEST_CASE("The number of CPUs has bounds") {
  CHECK(parse_run({"--cpus", "64", "ls"}).machine.cpus == 64);
  for (const char* count : {"0", "65", "-1", "two", "1.5", ""}) {
    CAPTURE(count);
    CHECK(finished({"run", "--cpus", count, "ls"}) == 125);
  }
}

TEST_CASE("Memory is rounded down to 2 MiB and has bounds") {
  CHECK(parse_run({"-m", "64M", "ls"}).machine.memory == std::uint64_t{64} << 20);
  CHECK(parse_run({"--balloon", "24M", "ls"}).machine.balloon == std::uint64_t{24} << 20);
  CHECK(parse_run({"-m", "65", "ls"}).machine.memory == std::uint64_t{64} << 20);
  for (const char* size : {"31M", "0", "-64M", "1000T", "64K", "much"}) {
    CAPTURE(size);
    CHECK(finished({"run", "-m", size, "ls"}) == 125);
  }
}

TEST_CASE("The vsock address has bounds") {
  CHECK(parse_run({"--cid", "77", "ls"}).machine.cid == 77);
  for (const char* cid : {"2", "0", "4294967295", "-3", "x"}) {
    CAPTURE(cid);
    CHECK(finished({"run", "--cid", cid, "ls"}) == 125);
  }
}

TEST_CASE("The console goes nowhere, to stdio, to stderr or to a file") {
  const auto console = [](const char* where) { return parse_run({"--console", where, "ls"}).console; };
  CHECK(console("none").kind == ConsoleChoice::Kind::none);
  CHECK(console("stdio").kind == ConsoleChoice::Kind::stdio);
  CHECK(console("stderr").kind == ConsoleChoice::Kind::stderr_only);
  CHECK(console("file:/tmp/a:b").kind == ConsoleChoice::Kind::file);
  CHECK(console("file:/tmp/a:b").path == "/tmp/a:b");
  for (const char* where : {"file:", "file", "tty", ""}) {
    CAPTURE(where);
    CHECK(finished({"run", "--console", where, "ls"}) == 125);
  }
}

TEST_CASE("Timeouts are durations") {
  const RunOptions options = parse_run({"--timeout", "1.5s", "--boot-timeout", "0", "ls"});
  CHECK(options.timeout == 1500ms);
  CHECK(options.machine.boot_deadline == 0ms);
  CHECK(finished({"run", "--timeout", "soon", "ls"}) == 125);
  CHECK(finished({"boot", "--boot-timeout", "5x"}) == 125);
}

TEST_CASE("Names and paths of the guest are kept as they are said") {
  const RunOptions options = parse_run({"--hostname", "box", "--init", "/bin/init", "--json", "out.json", "ls"});
  CHECK(options.machine.hostname == "box");
  CHECK(options.machine.init == "/bin/init");
  CHECK(options.json_file == "out.json");
}

TEST_CASE("A second -v makes the guest talk too") {
  CHECK_FALSE(parse_run({"-v", "ls"}).machine.verbose_guest);
  CHECK(parse_run({"-v", "-v", "ls"}).machine.verbose_guest);
  CHECK(parse_run({"-vv", "ls"}).machine.verbose_guest);
}

TEST_CASE("run leaves a root image as it is, unless it ends in :rw") {
  const auto root = [](Words words) {
    words.emplace_back("ls");
    return parse_run(std::move(words)).machine.root;
  };
  const Root plain = root({"--rootfs", "a.img"});
  CHECK(plain.kind == Root::Kind::disk);
  CHECK(plain.disk.path == "a.img");
  CHECK(plain.throw_away);
  const Root read_only = root({"-r", "a.img:ro"});
  CHECK(read_only.disk.path == "a.img");
  CHECK(read_only.disk.read_only);
  CHECK_FALSE(read_only.throw_away);
  const Root writable = root({"-r", "a.img:rw"});
  CHECK(writable.disk.path == "a.img");
  CHECK_FALSE(writable.disk.read_only);
  CHECK_FALSE(writable.throw_away);
}

TEST_CASE("boot writes to a root image and runs its own init, unless told otherwise") {
  const MachineConfig plain = parse_boot({"--rootfs", "a.img"}).machine;
  CHECK_FALSE(plain.root.throw_away);
  CHECK_FALSE(plain.root.disk.read_only);
  CHECK(plain.init == "/sbin/init");
  CHECK(parse_boot({"--rootfs", "a.img", "--ephemeral"}).machine.root.throw_away);
  CHECK(parse_boot({"--rootfs", "a.img:ro"}).machine.root.disk.read_only);
  CHECK(parse_boot({"--rootfs", "a.img", "--init", "/bin/sh"}).machine.init == "/bin/sh");
  CHECK(parse_boot({}).machine.init.empty());
}

TEST_CASE("--ephemeral goes with a read-only image and not with :rw") {
  const Root root = parse_run({"--rootfs", "a.img:ro", "--ephemeral", "ls"}).machine.root;
  CHECK(root.throw_away);
  CHECK(root.disk.read_only);
  CHECK(finished({"run", "--rootfs", "a.img:rw", "--ephemeral", "ls"}) == 125);
  CHECK_FALSE(parse_run({"--ephemeral", "ls"}).machine.root.throw_away);
}

TEST_CASE("A file that is called as a suffix is still a file") {
  CHECK(parse_run({"--rootfs", ":ro", "ls"}).machine.root.disk.path == ":ro");
  CHECK(parse_run({"--rootfs", "a:ro:ro", "ls"}).machine.root.disk.path == "a:ro");
}

TEST_CASE("An initrd is the root only when there is no other") {
  CHECK(parse_boot({"--initrd", "i.cpio"}).machine.root.kind == Root::Kind::initrd);
  const MachineConfig both = parse_boot({"--initrd", "i.cpio", "--rootfs", "a.img"}).machine;
  CHECK(both.root.kind == Root::Kind::disk);
  CHECK(both.initrd == "i.cpio");
}

TEST_CASE("More disks come in the order in which they are said") {
  const auto disks = parse_run({"--disk", "a.img", "--disk", "b.img:ro", "ls"}).machine.disks;
  REQUIRE(disks.size() == 2);
  CHECK(disks[0].path == "a.img");
  CHECK_FALSE(disks[0].read_only);
  CHECK(disks[1].path == "b.img");
  CHECK(disks[1].read_only);
}

TEST_CASE("-e sets a variable, or passes minivm's own on when it has one") {
  ::setenv("MINIVM_TEST_SET", "here", 1);
  ::unsetenv("MINIVM_TEST_UNSET");
  const auto env =
      parse_run({"-e", "A=1", "-e", "B=", "--env", "C=x=y", "-e", "MINIVM_TEST_SET", "-e", "MINIVM_TEST_UNSET", "ls"})
          .command.env;
  CHECK(env == Words{"A=1", "B=", "C=x=y", "MINIVM_TEST_SET=here"});
  CHECK(finished({"run", "-e", "=1", "ls"}) == 125);
}

TEST_CASE("User and working directory are the command's") {
  const Command command = parse_run({"-u", "nobody:daemon", "-w", "/srv", "ls"}).command;
  CHECK(command.user == "nobody:daemon");
  CHECK(command.directory == "/srv");
  CHECK(parse_run({"--cwd", "/x", "ls"}).command.directory == "/x");
}

TEST_CASE("An uploaded program is the command, under its own name or another") {
  const Command plain = parse_run({"--upload", "./tool"}).command;
  CHECK(plain.upload == "./tool");
  CHECK(plain.argv == Words{"./tool"});
  CHECK(parse_run({"--upload", "./tool", "--", "name", "-x"}).command.argv == Words{"name", "-x"});
}

TEST_CASE("-t asks for a terminal and -T for none") {
  CHECK(parse_run({"-t", "sh"}).command.tty);
  CHECK(parse_run({"-it", "sh"}).command.tty);
  CHECK_FALSE(parse_run({"-T", "sh"}).command.tty);
}

TEST_CASE("A machine may have a name, and stay in the background") {
  CHECK_FALSE(parse_run({"ls"}).is_named());
  CHECK(parse_run({"--name", "web", "ls"}).is_named());
  const RunOptions run = parse_run({"-d", "--rm", "--name", "web-1", "--", "httpd", "-f"});
  CHECK(run.detach);
  CHECK(run.remove);
  CHECK(run.name == "web-1");
  CHECK(run.command.argv == Words{"httpd", "-f"});
  CHECK(parse_boot({"-d"}).detach);
  CHECK(parse_boot({"-d"}).console.kind == ConsoleChoice::Kind::none);  // a log
  for (const char* name : {"", "-x", "a/b", "..", "a b"}) {
    CAPTURE(name);
    CHECK(finished({"run", "--name", name, "ls"}) == 125);
  }
  CHECK(finished({"run", "-d", "--console", "stderr", "ls"}) == 125);
}

TEST_CASE("run -d without a command is an idle machine, with the root of run") {
  const Options options = parse({"run", "-d", "--rootfs", "a.img"});
  REQUIRE(std::holds_alternative<BootOptions>(options));
  const BootOptions& idle = std::get<BootOptions>(options);
  CHECK(idle.detach);
  CHECK(idle.machine.root.throw_away);
  CHECK(idle.machine.init.empty());
  CHECK(finished({"run", "--name", "web"}) == 125);
}

TEST_CASE("In the background a record goes where the user said it") {
  const std::string file = parse_run({"-d", "--json", "out.json", "ls"}).json_file;
  CHECK(file.starts_with('/'));
  CHECK(file.ends_with("/out.json"));
}

ExecOptions parse_exec(Words words) {
  const Options options = parse(std::move(words));
  REQUIRE(std::holds_alternative<ExecOptions>(options));
  return std::get<ExecOptions>(options);
}

TEST_CASE("exec names a machine, then a command") {
  const ExecOptions plain = parse_exec({"exec", "web", "ls", "-l", "--help"});
  CHECK(plain.machine == "web");
  CHECK(plain.command.argv == Words{"ls", "-l", "--help"});
  const ExecOptions marked = parse_exec({"exec", "-u", "nobody", "web", "-w", "/tmp", "--timeout", "2s", "--", "-odd"});
  CHECK(marked.machine == "web");
  CHECK(marked.command.user == "nobody");
  CHECK(marked.command.directory == "/tmp");
  CHECK(marked.timeout == 2s);
  CHECK(marked.command.argv == Words{"-odd"});
  CHECK(parse_exec({"exec", "web", "git", "checkout", "--", "file"}).command.argv ==
        Words{"git", "checkout", "--", "file"});
  CHECK(parse_exec({"exec", "-d", "web", "ls"}).detach);
  CHECK(parse_exec({"exec", "-t", "web", "ls"}).command.tty);
  CHECK(finished({"exec"}) == 125);
  CHECK(finished({"exec", "web"}) == 125);
  CHECK(finished({"exec", "--", "web", "ls"}) == 125);
  CHECK(finished({"exec", "--bogus", "web", "ls"}) == 125);
}

TEST_CASE("shell takes a machine and no command") {
  const ExecOptions options = parse_exec({"shell", "-u", "nobody", "web"});
  CHECK(options.machine == "web");
  CHECK(options.command.tty);
  CHECK(options.command.user == "nobody");
  CHECK(finished({"shell", "web", "--", "ls"}) == 125);
  CHECK(finished({"shell"}) == 125);
}

TEST_CASE("Verbs about machines take several names") {
  CHECK(std::get<StopOptions>(parse({"stop", "a", "b"})).machines == Words{"a", "b"});
  CHECK(std::get<StopOptions>(parse({"stop", "a"})).deadline == 10s);
  CHECK(std::get<StopOptions>(parse({"stop", "-t", "1s", "a"})).deadline == 1s);
  CHECK(std::get<KillOptions>(parse({"kill", "a", "b"})).machines == Words{"a", "b"});
  CHECK(std::get<WaitOptions>(parse({"wait", "a"})).machines == Words{"a"});
  CHECK(std::get<RemoveOptions>(parse({"rm", "-f", "a"})).force);
  CHECK(std::get<InspectOptions>(parse({"inspect", "--json", "a"})).json);
  for (const char* verb : {"stop", "kill", "wait", "rm", "inspect", "logs"}) {
    CAPTURE(verb);
    CHECK(finished({verb}) == 125);
    CHECK(finished({verb, "--help"}) == 0);
  }
}

TEST_CASE("ps and logs know their options") {
  const auto list = std::get<ListOptions>(parse({"ps", "-a", "-q"}));
  CHECK(list.all);
  CHECK(list.names);
  CHECK(std::get<ListOptions>(parse({"ps", "--json"})).json);
  const auto logs = std::get<LogsOptions>(parse({"logs", "-f", "--console", "-n", "7", "web"}));
  CHECK(logs.machine == "web");
  CHECK(logs.follow);
  CHECK(logs.console);
  CHECK(logs.tail == 7U);
  CHECK_FALSE(std::get<LogsOptions>(parse({"logs", "web"})).tail);
}

TEST_CASE("doctor knows its own options") {
  const Options options = parse({"doctor", "--json", "--quick", "--kernel", "k"});
  REQUIRE(std::holds_alternative<DoctorOptions>(options));
  CHECK(std::get<DoctorOptions>(options).json);
  CHECK(std::get<DoctorOptions>(options).quick);
  CHECK(std::get<DoctorOptions>(options).kernel == "k");
}

}  // namespace

TEST_CASE("A disk's settings follow its access, in any order") {
  const auto disks = parse_run({"--disk", "a.img,direct", "--disk", "b.img:ro,bps=2M,iops=300", "--disk",
                                "c.img,iops=1", "--rootfs", "r.img:rw,iops=7,direct", "ls"})
                         .machine;
  REQUIRE(disks.disks.size() == 3);
  CHECK(disks.disks[0].path == "a.img");
  CHECK(disks.disks[0].direct);
  CHECK(disks.disks[0].operations_per_second == 0);
  CHECK(disks.disks[1].path == "b.img");
  CHECK(disks.disks[1].read_only);
  CHECK_FALSE(disks.disks[1].direct);
  CHECK(disks.disks[1].bytes_per_second == 2U << 20);
  CHECK(disks.disks[1].operations_per_second == 300);
  CHECK(disks.disks[2].operations_per_second == 1);
  CHECK(disks.root.disk.path == "r.img");
  CHECK(disks.root.disk.direct);
  CHECK(disks.root.disk.operations_per_second == 7);
}

TEST_CASE("What is no setting belongs to the name of the disk's file") {
  CHECK(parse_run({"--disk", "a,b.img", "ls"}).machine.disks[0].path == "a,b.img");
  CHECK(parse_run({"--disk", "a.img,iosp=3", "ls"}).machine.disks[0].path == "a.img,iosp=3");
  CHECK(parse_run({"--disk", "a,direct,b:ro,direct", "ls"}).machine.disks[0].path == "a,direct,b");
  CHECK(parse_run({"--disk", ",direct", "ls"}).machine.disks[0].path == ",direct");
}

TEST_CASE("A limit that is no number, or none at all, is refused") {
  for (const char* setting : {"iops=", "iops=0", "iops=-1", "iops=1k", "bps=", "bps=x", "bps=0"}) {
    CHECK(finished({"run", "--disk", std::string("a.img,") + setting, "ls"}) == 125);
  }
}

}  // namespace minivm

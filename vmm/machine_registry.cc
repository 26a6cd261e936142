#include "vmm/machine_registry.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <ctime>
#include <exception>
#include <stdexcept>

#include "base/log.h"
#include "vmm/log_file.h"

namespace minivm {
namespace {

constexpr const char* lock_file = "lock";
constexpr const char* socket_file = "socket";
constexpr const char* machine_file = "machine.json";
constexpr const char* exit_file = "exit.json";
constexpr int listen_backlog = 1024;
constexpr int signal_base = 128;

UniqueFd open_directory(int state, const std::string& name) {
  return UniqueFd(::openat(state, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

/// Only what was made here: a file of somebody else keeps its directory.
void remove_directory(int state, int directory, const std::string& name) {
  for (const char* file : {socket_file, machine_file, "machine.json.new", exit_file, "exit.json.new", console_log,
                           "console.log.1", output_log, "output.log.1", vmm_log, lock_file}) {
    ::unlinkat(directory, file, 0);
  }
  if (::unlinkat(state, name.c_str(), AT_REMOVEDIR) != 0) throw_errno("machine " + name + ": removing its directory");
}

EndRecord killed_record() {
  return {.ended = std::time(nullptr),
          .exit_code = signal_base + SIGKILL,
          .signal = SIGKILL,
          .killed = true,
          .reason = "minivm's process was killed",
          .console = {}};
}

}  // namespace

Registration::Registration(StateDirectory state, UniqueFd directory, UniqueFd lock, std::string name)
    : state_(std::move(state)), directory_(std::move(directory)), lock_(std::move(lock)), name_(std::move(name)) {}

Registration::~Registration() {
  if (!lock_) return;  // moved from
  try {
    const StateDirectory::Lock quiet = state_.lock();
    if (kept_) {
      ::unlinkat(directory_.get(), socket_file, 0);
    } else {
      remove_directory(state_.fd(), directory_.get(), name_);
    }
  } catch (const std::exception& error) {
    log::warning("{}", error.what());
  }
}

UniqueFd Registration::listen() const {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) throw_errno("control socket");
  // Through the descriptor: the whole path may be longer than an address can be.
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", directory_.get(), socket_file);
  std::memcpy(address.sun_path, path.c_str(), path.size());
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket.get(), listen_backlog) != 0) {
    throw_errno("control socket " + this->path() + "/" + socket_file);
  }
  return socket;
}

void Registration::describe(const MachineRecord& record) const {
  write_state_file(directory_.get(), machine_file, to_json(record));
}

void Registration::keep(const EndRecord& end) {
  write_state_file(directory_.get(), exit_file, to_json(end));
  kept_ = true;
}

Registration MachineRegistry::add(const std::string& wanted) {
  if (!wanted.empty() && !is_machine_name(wanted)) {
    throw std::runtime_error(fmt::format(
        "machine {}: a name starts with a letter or digit, goes on with these and _ . -, and has at most 63", wanted));
  }
  const StateDirectory::Lock quiet = state_.lock();
  const std::string name = wanted.empty() ? unused_name() : wanted;
  if (const auto other = examine(name)) {
    throw std::runtime_error(
        other->state == MachineState::ended
            ? fmt::format("machine {0}: there is one that has ended; minivm rm {0} removes it", name)
            : fmt::format("machine {}: runs already", name));
  }
  if (::mkdirat(state_.fd(), name.c_str(), 0700) != 0) throw_errno("machine " + name);
  UniqueFd directory = open_directory(state_.fd(), name);
  if (!directory) throw_errno("machine " + name);
  UniqueFd lock(::openat(directory.get(), lock_file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!lock || ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) throw_errno("machine " + name + ": lock");
  return {StateDirectory(state_.path()), std::move(directory), std::move(lock), name};
}

std::string MachineRegistry::unused_name() const {
  for (;;) {
    std::uint32_t number = 0;
    if (::getrandom(&number, sizeof number, 0) != sizeof number) throw_errno("getrandom");
    std::string name = fmt::format("{:08x}", number);
    if (::faccessat(state_.fd(), name.c_str(), F_OK, 0) != 0) return name;
  }
}

/// Under the lock of the state directory, which those that add and remove machines hold too.
std::optional<MachineEntry> MachineRegistry::examine(const std::string& name) const {
  const UniqueFd directory = open_directory(state_.fd(), name);
  if (!directory) return std::nullopt;
  const UniqueFd lock(::openat(directory.get(), lock_file, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  MachineEntry entry{.name = name,
                     .record = machine_from_json(read_state_file(directory.get(), machine_file)),
                     .end = end_from_json(read_state_file(directory.get(), exit_file))};
  if (lock && ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    entry.state = entry.record && entry.record->ready ? MachineState::running : MachineState::starting;
    entry.end.reset();
    return entry;
  }
  if (!entry.record || !entry.record->kept) {
    remove_directory(state_.fd(), directory.get(), name);
    return std::nullopt;
  }
  entry.state = MachineState::ended;
  if (!entry.end) {
    entry.end = killed_record();
    write_state_file(directory.get(), exit_file, to_json(*entry.end));
    ::unlinkat(directory.get(), socket_file, 0);
  }
  return entry;
}

std::vector<MachineEntry> MachineRegistry::list() const {
  const StateDirectory::Lock quiet = state_.lock();
  std::vector<MachineEntry> entries;
  for (const std::string& name : state_.names()) {
    try {
      if (auto entry = examine(name)) entries.push_back(*std::move(entry));
    } catch (const std::exception& error) {
      log::warning("{}", error.what());  // one that cannot be settled does not hide the others
    }
  }
  return entries;
}

std::optional<MachineEntry> MachineRegistry::find(const std::string& name) const {
  if (!is_machine_name(name)) return std::nullopt;
  const StateDirectory::Lock quiet = state_.lock();
  return examine(name);
}

void MachineRegistry::remove(const std::string& name) const {
  const StateDirectory::Lock quiet = state_.lock();
  const auto entry = is_machine_name(name) ? examine(name) : std::nullopt;
  if (!entry) throw std::runtime_error(fmt::format("machine {}: there is none", name));
  if (entry->state != MachineState::ended) throw std::runtime_error(fmt::format("machine {}: runs", name));
  remove_directory(state_.fd(), open_directory(state_.fd(), name).get(), name);
}

}  // namespace minivm

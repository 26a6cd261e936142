#include "cli/logs_command.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "vmm/log_file.h"
#include "vmm/log_reader.h"
#include "vmm/machine_registry.h"
#include "vmm/output_log.h"

namespace minivm {
namespace {

/// A killed machine leaves no trace that could be waited for: looked at this often.
constexpr int longest_pause_ms = 500;

/// Some bytes of a log, and the descriptor of ours that they are for.
struct Piece {
  int target = STDOUT_FILENO;
  std::vector<std::byte> bytes;
};

/// The log's bytes as pieces, in their order.
class PieceReader {
 public:
  PieceReader(int directory, bool console) : console_(console), log_(directory, console ? console_log : output_log) {}

  bool is_there() const noexcept { return static_cast<bool>(log_); }
  /// False when there is nothing new.
  bool read(std::vector<Piece>& pieces);

 private:
  bool console_;
  LogReader log_;
  std::vector<std::byte> bytes_;  // less than a record
};

bool PieceReader::read(std::vector<Piece>& pieces) {
  if (!log_.read(bytes_)) return false;
  if (console_) {
    pieces.push_back({STDOUT_FILENO, std::exchange(bytes_, {})});
    return true;
  }
  const std::size_t taken = for_each_output(bytes_, [&](std::uint32_t stream, std::span<const std::byte> part) {
    pieces.push_back({stream == OutputRecord::to_stderr ? STDERR_FILENO : STDOUT_FILENO, {part.begin(), part.end()}});
  });
  bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(taken));
  if (log_.at_part_end()) bytes_.clear();
  return true;
}

/// Leaves the last `count` lines, whichever stream each went to.
void keep_last_lines(std::vector<Piece>& pieces, std::size_t count) {
  if (count == 0) return pieces.clear();
  std::size_t newlines = 0;
  bool last = true;  // the one that ends the last line does not begin another
  for (std::size_t i = pieces.size(); i-- > 0;) {
    std::vector<std::byte>& bytes = pieces[i].bytes;
    for (std::size_t at = bytes.size(); at-- > 0;) {
      if (bytes[at] == std::byte{'\n'} && !last && ++newlines == count) {
        bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(at + 1));
        pieces.erase(pieces.begin(), pieces.begin() + static_cast<std::ptrdiff_t>(i));
        return;
      }
      last = false;
    }
  }
}

/// False when nobody reads any more.
bool write_out(const std::vector<Piece>& pieces) {
  for (const Piece& piece : pieces) {
    for (std::span<const std::byte> rest(piece.bytes); !rest.empty();) {
      const ssize_t written = ::write(piece.target, rest.data(), rest.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return false;
      rest = rest.subspan(static_cast<std::size_t>(written));
    }
  }
  return true;
}

/// Tells when something in a directory may have changed.
class ChangeWatch {
 public:
  explicit ChangeWatch(const std::string& directory) : fd_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
    ::inotify_add_watch(fd_.get(), directory.c_str(), IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE);
  }

  void wait() const {
    pollfd ready{fd_.get(), POLLIN, 0};
    ::poll(&ready, 1, longest_pause_ms);
    std::array<char, 4096> events;
    while (::read(fd_.get(), events.data(), events.size()) > 0) {
    }
  }

 private:
  UniqueFd fd_;
};

bool is_alive(const std::string& machine) {
  const auto entry = MachineRegistry().find(machine);
  return entry && entry->state != MachineState::ended;
}

/// Until the machine has ended, or nobody reads any more.
void follow(const std::string& machine, PieceReader& reader, const ChangeWatch& watch) {
  for (bool alive = true; alive;) {
    alive = is_alive(machine);  // before the last look, so that nothing is missed
    std::vector<Piece> pieces;
    while (reader.read(pieces)) {
    }
    if (!write_out(pieces)) return;
    if (alive && pieces.empty()) watch.wait();
  }
}

}  // namespace

int logs_command(const LogsOptions& options) {
  const MachineRegistry registry;
  if (!registry.find(options.machine))
    throw std::runtime_error(fmt::format("machine {}: there is none", options.machine));
  const std::string path = registry.path_of(options.machine);
  const UniqueFd directory = open_file(path, O_RDONLY | O_DIRECTORY);
  const ChangeWatch watch(path);
  PieceReader reader(directory.get(), options.console);
  if (!reader.is_there()) {
    throw std::runtime_error(
        options.console ? fmt::format("machine {}: its console is not logged", options.machine)
                        : fmt::format("machine {}: no command of it is logged; see --console", options.machine));
  }
  std::vector<Piece> pieces;
  while (reader.read(pieces)) {
  }
  if (options.tail) keep_last_lines(pieces, *options.tail);
  if (write_out(pieces) && options.follow) follow(options.machine, reader, watch);
  return 0;
}

}  // namespace minivm

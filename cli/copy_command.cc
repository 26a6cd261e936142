#include "cli/copy_command.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <optional>

#include "base/fd.h"
#include "base/log.h"
#include "copy/receiver.h"
#include "copy/sender.h"
#include "protocol/built_in.h"
#include "vmm/exec_session.h"
#include "vmm/machine_client.h"
#include "vmm/state_directory.h"

namespace minivm {
namespace {

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Pipe open_pipe() {
  constexpr int size = 1 << 20;
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw_errno("pipe");
  ::fcntl(ends[0], F_SETPIPE_SZ, size);  // the usual 64 KiB do as well
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

/// The guest's end: a program that its PID 1 brings along, on one end of a pipe.
class GuestEnd {
 public:
  GuestEnd(const CopyPlace& place, std::string_view program, int input, int output) : client_(place.machine) {
    const Command command{.argv = {std::string(program), place.path}, .env = {}, .directory = "/", .built_in = true};
    client_.exec(command, {input, output, STDERR_FILENO}, 0, 0, false);
  }

  /// Its exit code, once it has ended. What it had to say went to stderr.
  int wait() {
    std::optional<int> code;
    const MachineClient::Events events{
        .exited = [&](const ExitStatus& status) { code = status.code; },
        .refused =
            [&](int exit_code, const std::string& reason) {
              log::warning("{}", reason);
              code = exit_code;
            },
    };
    while (!code) {
      if (client_.receive(events)) continue;
      log::warning("machine {}: its process ended before the copy did", client_.name());
      code = ExecOutcome::launcher_failed;
    }
    return *code;
  }

 private:
  MachineClient client_;
};

/// 1 when one of the two ends has failed, and said so; what kept the copy from beginning is the launcher's.
int exit_code(int own, int guest) {
  if (guest == ExecOutcome::launcher_failed) return guest;
  return own != 0 || guest != 0 ? 1 : 0;
}

int copy_in(const CopyPlace& source, const CopyPlace& destination) {
  Pipe pipe = open_pipe();
  GuestEnd guest(destination, protocol::built_in::receive, pipe.read.get(), -1);
  pipe.read.reset();
  const int code = copy::send(source.path.c_str(), pipe.write.get(), "");
  pipe.write.reset();
  return exit_code(code, guest.wait());
}

int copy_out(const CopyPlace& source, const CopyPlace& destination) {
  Pipe pipe = open_pipe();
  GuestEnd guest(source, protocol::built_in::send, -1, pipe.write.get());
  pipe.write.reset();
  // A guest is not trusted with what could become another user's rights here.
  const copy::ReceiverTrust trust{.owners = ::geteuid() == 0, .set_id = false};
  const int code = copy::receive(pipe.read.get(), destination.path.c_str(), trust, "");
  pipe.read.reset();
  return exit_code(code, guest.wait());
}

}  // namespace

CopyPlace parse_copy_place(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == text.npos || !is_machine_name(text.substr(0, colon))) return {.machine = {}, .path = std::string(text)};
  return {.machine = std::string(text.substr(0, colon)), .path = std::string(text.substr(colon + 1))};
}

int copy_command(const CopyOptions& options) {
  const CopyPlace source = parse_copy_place(options.source);
  const CopyPlace destination = parse_copy_place(options.destination);
  return source.machine.empty() ? copy_in(source, destination) : copy_out(source, destination);
}

}  // namespace minivm

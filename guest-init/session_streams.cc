#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "guest-init/file.h"
#include "guest-init/session.h"

namespace minivm::guest {
namespace {

using protocol::ExecStep;

/// More than one relay buffer, so that the program goes on while the relay waits for the host.
constexpr int pipe_size = 256 * 1024;

/// A terminal that its session leader left is hung up; more than this the kernel does not hold for it.
constexpr std::size_t terminal_rest = 128 * 1024;

constexpr char end_of_file_character = 4;  // ^D, the terminal's VEOF

/// Makes `ours` non-blocking and lets the program's user open `theirs` again, as /dev/stdout for instance.
int prepare_pipe(int ours, int theirs, const Identity& identity) noexcept {
  if (fcntl(ours, F_SETFL, O_NONBLOCK) != 0) return errno;
  fcntl(ours, F_SETPIPE_SZ, pipe_size);  // the usual 64 KiB do as well
  if (identity.uid != 0 && fchown(theirs, identity.uid, identity.gid) != 0) return errno;
  return 0;
}

std::size_t bytes_in(int pipe) noexcept {
  int count = 0;
  return ioctl(pipe, FIONREAD, &count) == 0 && count > 0 ? static_cast<std::size_t>(count) : 0;
}

}  // namespace

bool Session::open_pipes(ChildEnds& ends) noexcept {
  for (std::size_t stream = 0; stream < relays; ++stream) {
    if (!sockets_[stream]) {
      ends[stream] = open_file("/dev/null", stream == in ? O_RDONLY : O_WRONLY);
      if (!ends[stream]) return fail(ExecStep::streams, errno), false;
      continue;
    }
    int pipe[2];
    if (pipe2(pipe, O_CLOEXEC) != 0) return fail(ExecStep::streams, errno), false;
    const bool to_program = stream == in;
    locals_[stream].reset(pipe[to_program ? 1 : 0]);
    ends[stream].reset(pipe[to_program ? 0 : 1]);
    const int error = prepare_pipe(locals_[stream].get(), ends[stream].get(), plan_->identity);
    if (error != 0) return fail(ExecStep::streams, error), false;
  }
  return true;
}

bool Session::open_pty(ChildEnds& ends) noexcept {
  Terminal terminal = open_terminal(window_);
  if (!terminal.master) return fail(ExecStep::terminal, errno), false;
  const Identity& identity = plan_->identity;
  if (identity.uid != 0 && fchown(terminal.slave.get(), identity.uid, static_cast<gid_t>(-1)) != 0) {
    return fail(ExecStep::terminal, errno), false;
  }
  locals_[in] = std::move(terminal.master);
  for (Fd& end : ends) {
    end.reset(fcntl(terminal.slave.get(), F_DUPFD_CLOEXEC, 3));
    if (!end) return fail(ExecStep::terminal, errno), false;
  }
  input_open_ = true;
  return true;
}

void Session::start_relays() noexcept {
  for (std::size_t i = 0; i < relays; ++i) {
    relays_[i].start(relay_buffer(i));
    if (locals_[i]) watch_source(locals_[i].get(), local_source + i);
  }
  // What reached the sockets before this is no news for epoll.
  for (std::uint16_t i = 0; i < relays; ++i) relay(i, 0);
}

void Session::drain_relays() noexcept {
  if (is_terminal_) {
    input_open_ = false;
    relays_[out].drain(terminal_rest);
    return relay_terminal(false);
  }
  locals_[in].reset();  // what the host still sends is for no one
  for (const std::size_t stream : {std::size_t{out}, std::size_t{err}}) {
    if (!locals_[stream]) continue;
    relays_[stream].drain(bytes_in(locals_[stream].get()));
    relay_output(stream, false);
  }
}

bool Session::outputs_ended() const noexcept { return is_terminal_ ? !locals_[in] : !locals_[out] && !locals_[err]; }

void Session::relay(std::uint16_t source, std::uint32_t events) noexcept {
  const bool is_socket = source < local_source;
  const std::size_t stream = is_socket ? source : source - local_source;
  if (is_terminal_) {
    relay_terminal(is_socket);
  } else if (stream == in) {
    relay_input(!is_socket && (events & EPOLLERR) != 0);
  } else if (stream < relays) {
    relay_output(stream, is_socket);
  }
}

void Session::relay_input(bool reader_gone) noexcept {
  Fd& pipe = locals_[in];
  const int socket = sockets_[in].get();
  if (!pipe) return;
  switch (reader_gone ? Relay::Flow::refused : relays_[in].pump(socket, pipe.get())) {
    case Relay::Flow::waiting:
      return;
    case Relay::Flow::yielded:
      watch_source(socket, in, true);
      return;
    case Relay::Flow::ended:
      return pipe.reset();
    case Relay::Flow::refused:  // a program may well stop reading: no error, and the host can stop sending
      shutdown(socket, SHUT_RD);
      return pipe.reset();
  }
}

Relay::Flow Session::pump_output(std::size_t stream, int source, int socket, bool probe) noexcept {
  Relay& relay = relays_[stream];
  const Relay::Flow flow = relay.pump(source, socket);
  const bool gone = probe && flow == Relay::Flow::waiting && relay.empty() && reader_is_gone(socket);
  return gone ? Relay::Flow::refused : flow;
}

void Session::relay_output(std::size_t stream, bool probe) noexcept {
  Fd& pipe = locals_[stream];
  Fd& socket = sockets_[stream];
  if (!pipe) return;
  switch (pump_output(stream, pipe.get(), socket.get(), probe)) {
    case Relay::Flow::waiting:
      return;
    case Relay::Flow::yielded:
      watch_source(pipe.get(), local_source + stream, true);
      return;
    case Relay::Flow::ended:
      shutdown(socket.get(), SHUT_WR);
      return pipe.reset();
    case Relay::Flow::refused:  // the writer's next write meets SIGPIPE, as with any closed pipe
      pipe.reset();
      return socket.reset();
  }
}

void Session::relay_terminal(bool probe) noexcept {
  Fd& master = locals_[in];
  const int socket = sockets_[in].get();
  if (!master) return;
  if (input_open_) {
    const Relay::Flow flow = relays_[in].pump(socket, master.get());
    if (flow == Relay::Flow::ended) end_terminal_input();
    if (flow == Relay::Flow::refused) input_open_ = false;
    if (flow == Relay::Flow::yielded) watch_source(socket, in, true);
  }
  switch (pump_output(out, master.get(), socket, probe)) {
    case Relay::Flow::waiting:
      return;
    case Relay::Flow::yielded:
      watch_source(master.get(), local_source + in, true);
      return;
    case Relay::Flow::ended:
      shutdown(socket, SHUT_WR);
      return master.reset();
    case Relay::Flow::refused:  // a terminal that went away: the program gets SIGHUP
      master.reset();
      return sockets_[in].reset();
  }
}

void Session::end_terminal_input() noexcept {
  // A terminal has no half-close. In the middle of a line the first ^D only hands over the line so far.
  const char keys[] = {end_of_file_character, end_of_file_character};
  const std::size_t count = relays_[in].at_line_start() ? 1 : 2;
  [[maybe_unused]] const ssize_t ignored = write(locals_[in].get(), keys, count);
  input_open_ = false;
}

int Session::watch_source(int fd, std::size_t source, bool again) noexcept {
  key_.source = static_cast<std::uint16_t>(source);
  return watch(services_->epoll, fd, key_, again);
}

std::span<std::byte> Session::relay_buffer(std::size_t relay) const noexcept {
  return memory_.bytes().subspan(relay * Relay::capacity, Relay::capacity);
}

}  // namespace minivm::guest

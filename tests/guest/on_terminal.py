#!/usr/bin/env python3
"""Runs a command on a terminal of its own and talks to it.

    on_terminal.py [--seconds N] [--size ROWSxCOLUMNS] [--wait PATTERN | --send TEXT | --hang-up]... -- COMMAND [ARG...]

The steps are done in order: --wait reads until the regular expression matches what came since the last match, --send
types (backslash escapes are read as in Python), --hang-up takes the terminal away. Then the rest is read until the
command ends. What the command wrote goes to stdout. The exit code is the command's (128 + N for a signal), 99 when a
pattern did not come in time, 98 when the command left the terminal in another mode than it found it in.
"""
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
import fcntl


def parse(arguments):
    steps, seconds, size = [], 120.0, (24, 80)
    while arguments and arguments[0] != "--":
        option = arguments.pop(0)
        if option == "--hang-up":
            steps.append((option, None))
        elif option == "--seconds":
            seconds = float(arguments.pop(0))
        elif option == "--size":
            size = tuple(int(number) for number in arguments.pop(0).split("x"))
        elif option in ("--wait", "--send"):
            steps.append((option, arguments.pop(0)))
        else:
            sys.exit(f"on_terminal.py: unknown option {option}")
    return steps, seconds, size, arguments[1:]


class Terminal:
    def __init__(self, command, size):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.mode = termios.tcgetattr(slave)
        self.slave = slave
        self.seen = b""
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.master)
            os.login_tty(slave) if hasattr(os, "login_tty") else self.log_in(slave)
            os.execvp(command[0], command)

    @staticmethod
    def log_in(slave):
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in range(3):
            os.dup2(slave, fd)

    def read(self, seconds):
        """False when nothing more will come."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        self.seen += data
        return bool(data)

    def wait(self, pattern, deadline):
        expression = re.compile(pattern.encode())
        while True:
            found = expression.search(self.seen)
            if found:
                self.seen = self.seen[found.end():]
                return True
            if time.monotonic() > deadline or not self.read(0.2) or self.ended():
                if not expression.search(self.seen):
                    return False

    def ended(self):
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main():
    steps, seconds, size, command = parse(sys.argv[1:])
    deadline = time.monotonic() + seconds
    terminal = Terminal(command, size)
    for option, text in steps:
        if option == "--wait" and not terminal.wait(text, deadline):
            print(f"on_terminal.py: no {text!r} within {seconds} s", file=sys.stderr)
            os.kill(terminal.pid, signal.SIGKILL)
            sys.exit(99)
        elif option == "--send":
            os.write(terminal.master, text.encode().decode("unicode_escape").encode("latin-1"))
        elif option == "--hang-up":
            os.close(terminal.slave)
            os.close(terminal.master)
            terminal.master = None
    while not terminal.ended() and time.monotonic() < deadline:
        if terminal.master is None:
            time.sleep(0.1)
        else:
            terminal.read(0.2)
    if not terminal.ended():
        print(f"on_terminal.py: {command[0]} did not end within {seconds} s", file=sys.stderr)
        os.kill(terminal.pid, signal.SIGKILL)
        sys.exit(99)
    if terminal.master is not None:
        terminal.read(0)
        if termios.tcgetattr(terminal.slave) != terminal.mode:
            print("on_terminal.py: the terminal was left in another mode", file=sys.stderr)
            sys.exit(98)
    code = os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1])
    sys.exit(code if code >= 0 else 128 - code)


main()

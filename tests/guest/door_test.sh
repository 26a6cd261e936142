#!/usr/bin/env bash
# The outside door, the clock, and being stopped: what a long-running machine lives through. One machine for all.
. "$(dirname "${BASH_SOURCE[0]}")/story.sh"

# In the guest: echoes each connection to port 52 to its end, and greets host port 77.
cat >echo.c <<'C'
#include <stdio.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>
#include <unistd.h>
int main(void) {
  struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 52};
  int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr*)&address, sizeof address) != 0 || listen(listener, 8) != 0) return perror("listen"), 1;
  int host = socket(AF_VSOCK, SOCK_STREAM, 0);
  address.svm_cid = 2;
  address.svm_port = 77;
  if (connect(host, (struct sockaddr*)&address, sizeof address) != 0) return perror("connect"), 1;
  if (write(host, "greetings\n", 10) != 10) return 1;
  close(host);
  for (;;) {
    static char buffer[65536];
    int caller = accept(listener, 0, 0);
    for (ssize_t size; (size = read(caller, buffer, sizeof buffer)) > 0;) {
      for (ssize_t done = 0; done < size;) done += write(caller, buffer + done, size - done);
    }
    close(caller);
  }
}
C
gcc -static -o echo echo.c
# Through the door: says its line and passes stdin and stdout on, with half-closes.
cat >call.py <<'P'
import socket, sys, threading
door = socket.socket(socket.AF_UNIX)
door.connect(sys.argv[1])
door.sendall(b"CONNECT %d\n" % int(sys.argv[2]))
answer = b""
while not answer.endswith(b"\n"):
    byte = door.recv(1)
    if not byte:
        sys.exit("no OK")
    answer += byte
assert answer.startswith(b"OK "), answer
def send():
    while data := sys.stdin.buffer.read1(65536):
        door.sendall(data)
    door.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
while data := door.recv(65536):
    sys.stdout.buffer.write(data)
P
python3 -c '
import socket
greeted = socket.socket(socket.AF_UNIX)
greeted.bind("door_77")
greeted.listen()
print(greeted.accept()[0].makefile().read(), end="")' >greeting &
greeted=$!
until [[ -S door_77 ]]; do sleep 0.2; done
set -m # a job of its own: the kernel stops no process whose shell could not continue it
"$minivm" run --vsock-socket door --upload ./echo &
vmm=$!
set +m
command_line='minivm run --vsock-socket door --upload ./echo'
wait "$greeted"

story 'the guest reaches a socket of the host'
expect_that test "$(<greeting)" = greetings

story 'the host reaches a port of the guest'
try sh -c "seq 1 100000 | python3 call.py door 52 | sha256sum"
expect_out "$(seq 1 100000 | sha256sum)"

story 'a port that nobody listens on'
refused 1 'no OK' python3 call.py door 53

story 'a socket that is in use'
refused 125 'door: in use by another program' "$minivm" run --vsock-socket door -- true

story 'after a stop'
kill -TSTP "$vmm"
sleep 1
expect_that grep -q '^State:.T' "/proc/$vmm/status"
kill -CONT "$vmm"
try sh -c "echo still there | python3 call.py door 52"
expect_out 'still there'

story 'the socket goes with the machine'
kill -TERM "$vmm"
wait "$vmm"
code=$?
expect_code 143
expect_that test ! -e door

story 'the clock follows when the host sets its own, and what minivm slept through'
mkfifo told
set -m
# shellcheck disable=SC2016
"$minivm" run -- sh -c 'echo ready; while read -r _; do sleep 1; date +%s; done' <told >dates &
vmm=$!
set +m
command_line='minivm run, and date after each change'
exec 4>told
until grep -q ready dates; do sleep 0.2; done
# date_after CHANGES: the guest's, in seconds after the host's.
date_after() {
  local seen
  seen=$(wc -l <dates)
  echo go >&4
  until (($(wc -l <dates) > seen)); do sleep 0.2; done
  off=$(($(tail -n 1 dates) - $(date +%s)))
}
date -s '+1 hour' >/dev/null
date_after
expect_that test "${off#-}" -lt 60
for stop in STOP TSTP; do
  kill "-$stop" "$vmm"
  until grep -q '^State:.T' "/proc/$vmm/status"; do sleep 0.1; done
  date -s '+1 hour' >/dev/null
  kill -CONT "$vmm"
  date_after
  expect_that test "${off#-}" -lt 60
done
date -s '-3 hours' >/dev/null
date_after
expect_that test "${off#-}" -lt 60
exec 4>&-
wait "$vmm"
code=$?
expect_code 0

finish

#!/usr/bin/env bash
# `minivm boot`, and `minivm run` on a terminal: what a person at the keyboard sees.
terminal=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/on_terminal.py
. "$(dirname "${BASH_SOURCE[0]}")/story.sh"

# Too large to copy here: its guests write to RAM. What a guest's own shutdown leaves on a disk is seen on a small root.
debian=$assets/debian-12.ext4
cpus=$(($(nproc) > 1 ? 2 : 1))
small_root small.ext4

story 'a distribution, to its login prompt and a clean power-off'
try "$terminal" --seconds 400 --wait 'login: ' --send 'root\n' --wait '# ' --send 'nproc; free -m | grep Mem\n' \
  --wait "\r$cpus\r\n" --wait 'Mem: +(3[89]|40)' --wait '# ' --send 'poweroff\n' \
  -- "$minivm" boot --rootfs "$debian" --ephemeral --cpus "$cpus" --memory 4G
expect_code 0

story 'the same with the newer kernel, to a reboot'
try "$terminal" --seconds 400 --wait 'login: ' --send 'root\n' --wait '# ' --send 'uname -r\n' --wait '6\.12\.' --wait '# ' \
  --send 'reboot\n' -- "$minivm" boot --kernel "$assets/kernel-6.12/vmlinuz" --rootfs "$debian" --ephemeral
expect_code 0

story 'SIGTERM powers the guest off and unmounts its disks'
"$minivm" boot --rootfs small.ext4 --console file:console.log </dev/null >out 2>err &
vmm=$!
for ((i = 0; i < 900; ++i)); do
  grep -q 'Please press Enter' console.log 2>/dev/null && break
  sleep 0.2
done
kill -TERM "$vmm"
wait "$vmm"
code=$?
command_line='minivm boot, then SIGTERM'
expect_code 143
try e2fsck -fn small.ext4
expect_code 0

story 'Ctrl-A x ends the machine'
try "$terminal" --seconds 300 --wait '[$#] ' --send '\x01x' -- "$minivm" boot --init /bin/sh
expect_code 0

story 'a terminal for the command'
try "$terminal" --seconds 300 --size 33x99 --wait '33 99' --wait '# ' --send 'echo typed; exit 5\n' --wait 'typed\r\n' \
  -- "$minivm" run -- sh -c 'stty size; exec sh'
expect_code 5

story 'Ctrl-C reaches the command and not minivm'
# shellcheck disable=SC2016
try "$terminal" --seconds 300 --wait 'go' --send '\x03' --wait 'caught' -- "$minivm" run -- \
  sh -c 'trap "echo caught; exit 9" INT; echo go; while :; do sleep 0.1; done'
expect_code 9

story 'the terminal hangs up'
try "$terminal" --seconds 300 --wait 'go' --hang-up -- "$minivm" run -- sh -c 'echo go; sleep 1000'
expect_that test "$code" -ge 129

finish

#!/usr/bin/env bash
# `minivm run`: a command in the default guest behaves as if it were local.
. "$(dirname "${BASH_SOURCE[0]}")/story.sh"

story 'a first command'
try "$minivm" run -- uname -a
expect_code 0
expect_out_like '^Linux minivm .* x86_64'
expect_no_err

story 'the streams stay apart'
# shellcheck disable=SC2016
try "$minivm" run -- sh -c 'echo to stdout; echo to stderr >&2'
expect_out 'to stdout'
expect_that test "$(<err)" = 'to stderr'

story 'exit codes pass'
for wanted in 0 1 7 255; do
  try "$minivm" run -- sh -c "exit $wanted"
  expect_code "$wanted"
done

story 'death by a signal'
# shellcheck disable=SC2016
try "$minivm" run -- sh -c 'kill -TERM $$'
expect_code 143

story 'stdin arrives whole, and its end too'
try sh -c "seq 1 1000000 | '$minivm' run -- sha256sum"
expect_code 0
expect_out "$(seq 1 1000000 | sha256sum)"

story 'closed standard streams'
try "$minivm" run -- cat <&-
expect_code 0
expect_out ''
try sh -c "'$minivm' run -- echo lost >&-"
expect_code 0

story 'environment, directory and user'
printf '# for the job\nFILED=yes\nGIVEN=file\n' >variables
# shellcheck disable=SC2016
PASSED=on try "$minivm" run -e GIVEN='a b' -e PASSED --env-file variables --umask 077 --ulimit nofile=100:200 -w /tmp -u nobody \
  -- sh -c 'echo "$GIVEN $PASSED $FILED $PWD $(id -un) $(umask) $(ulimit -Sn) $(ulimit -Hn)"'
expect_out 'a b on yes /tmp nobody 0077 100 200'

story 'arguments are not touched'
try "$minivm" run printf '<%s>' 'a b' '' '*' "\$HOME" -- --help
expect_out "<a b><><*><\$HOME><--><--help>"

story 'what cannot be executed'
refused 127 'no-such-program: not found in the guest' "$minivm" run -- no-such-program
refused 126 '/etc/passwd: Permission denied' "$minivm" run -- /etc/passwd
refused 125 'changing to /nowhere in the guest: No such file' "$minivm" run -w /nowhere -- true
refused 125 'user nemo in the guest: no such user' "$minivm" run -u nemo -- true

story 'a program of the host, sent along'
cat >hello.c <<'C'
#include <stdio.h>
int main(int argc, char** argv) { printf("%s has %d arguments\n", argv[0], argc - 1); return 42; }
C
gcc -static -o hello hello.c
try "$minivm" run --upload ./hello -- ./hello one two
expect_code 42
expect_out './hello has 2 arguments'
gcc -o dynamic hello.c
refused 127 'dynamic: needs the loader /lib64/ld-linux-x86-64.so.2, which' "$minivm" run --upload ./dynamic
refused 127 'absent: No such file' "$minivm" run --upload ./absent -- ./absent
refused 126 'hello.c: not an ELF file' "$minivm" run --upload ./hello.c -- ./hello.c

story 'a child that is left behind holds nothing up'
try "$minivm" run -- sh -c 'sleep 1000 & echo started'
expect_code 0
expect_out started

story 'a reader that leaves early'
# shellcheck disable=SC2016
try bash -c "'$minivm' run -- sh -c 'yes; echo \$? >&2' | head -n 1"
expect_out y

story 'a time limit'
refused 124 'timed out after 3 s' "$minivm" run --timeout 3s -- sleep 1000

story 'the first SIGINT goes to the command'
try timeout --signal=INT --preserve-status 60 "$minivm" run -- sleep 1000
expect_code 130

story 'SIGTERM while it boots'
try timeout --signal=TERM 0.3 "$minivm" run -- sleep 1000
expect_code 124

story 'the record for machines'
try "$minivm" run --json record.json -- sh -c 'exit 3'
expect_that grep -q '"exit_code": 3' record.json

story 'several processors, and memory above the hole'
try "$minivm" run --cpus 4 --memory 4G -- sh -c 'nproc; free -m'
expect_out_like '^4$'
expect_out_like 'Mem: +(3[89]|40)[0-9][0-9]'

story 'the newer kernel'
try "$minivm" run --kernel "$assets/kernel-6.12/vmlinuz" -- uname -r
expect_out_like '^6\.12\.'

story 'the kernel unpacks itself'
try "$minivm" run --kaslr -- uname -r
expect_code 0

story 'an ELF kernel'
grep -lF "$(<"$assets/kernel/release") " "${XDG_CACHE_HOME:-$HOME/.cache}"/minivm/unpacked/*.vmlinux | head -n 1 |
  xargs -I{} cp {} vmlinux
try "$minivm" run --kernel vmlinux --modules "$assets/kernel/modules" -- uname -r
expect_code 0

story 'randomness and time'
try "$minivm" run -- sh -c 'date +%s; head -c 16 /dev/random | wc -c'
expect_that test "$(($(date +%s) - $(head -n 1 out)))" -lt 30

finish

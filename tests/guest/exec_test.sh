#!/usr/bin/env bash
# Programs in a running machine behave as if they were local: one machine, a case for each way in which others get it wrong.
terminal=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/on_terminal.py
. "$(dirname "${BASH_SOURCE[0]}")/story.sh"

# MINIVM_EXEC_MIB=1024 makes it the full GiB, MINIVM_EXEC_SLEEP is how many seconds a reader sleeps.
mib=${MINIVM_EXEC_MIB:-16} sleep_s=${MINIVM_EXEC_SLEEP:-3}
export XDG_RUNTIME_DIR=$scratch/state
mkdir -m 700 "$XDG_RUNTIME_DIR"
trap '"$program" kill box >/dev/null 2>&1; rm -rf "$scratch"' EXIT

in_box() { "$program" exec box -- "$@"; }
# in_background COMMAND...: as a job of its own, for which a shell does not ignore SIGINT; its client is $client.
in_background() {
  set -m
  "$program" exec box -- "$@" </dev/null >out 2>err &
  client=$!
  set +m
}
code_of() {
  wait "$1"
  code=$?
}

story 'a machine that stays'
try "$minivm" run -d --name box
expect_code 0
expect_out box

story 'each exit code'
command_line='exit codes 0 to 255'
wrong=''
for wanted in {0..255}; do
  in_box sh -c "exit $wanted" </dev/null >/dev/null 2>err
  code=$?
  [[ $code == "$wanted" ]] || wrong+=" $wanted:$code"
done
expect_that test -z "$wrong"

story 'each signal that ends a program'
cat >die.c <<'C'
#include <signal.h>
#include <stdlib.h>
int main(int argc, char** argv) { return raise(atoi(argv[argc - 1])); }
C
gcc -static -o die die.c
command_line='signals' wrong=''
for signal in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 24 25 26 27 29 30 31; do
  "$program" exec --upload ./die box -- ./die "$signal" </dev/null >/dev/null 2>err
  code=$?
  [[ $code == $((128 + signal)) ]] || wrong+=" $signal:$code"
done
expect_that test -z "$wrong"

story 'each signal that is passed on'
for signal in INT TERM HUP QUIT USR1 USR2; do
  : >out
  # shellcheck disable=SC2016
  in_background sh -c 'trap "echo $0; exit 7" "$0"; echo up; while :; do sleep 0.1; done' "$signal"
  command_line="exec, then SIG$signal"
  until grep -q up out; do sleep 0.1; done
  kill -"$signal" "$client"
  code_of "$client"
  expect_code 7
  expect_out $'up\n'"$signal"
done

story 'a second SIGINT escalates'
# shellcheck disable=SC2016
in_background sh -c 'trap "echo once" INT; echo up; while :; do sleep 0.1; done'
command_line='exec, then SIGINT twice'
until grep -q up out; do sleep 0.1; done
kill -INT "$client"
until grep -q once out; do sleep 0.1; done
kill -INT "$client"
code_of "$client"
expect_that test "$code" -gt 128

story 'what cannot be executed'
refused 127 'no-such-program: not found in the guest' in_box no-such-program
refused 126 '/etc/passwd: Permission denied' in_box /etc/passwd
refused 125 'changing to /nowhere in the guest: No such file' "$program" exec -w /nowhere box -- true
refused 125 'user nemo in the guest: no such user' "$program" exec -u nemo box -- true

story 'a child that is left behind holds nothing up'
try in_box sh -c 'sleep 1000 & echo started'
expect_code 0
expect_out started

story 'more than a pipe holds, both ways'
try sh -c "head -c 65537 /dev/zero | '$program' exec box -- sh -c 'cat | tee /dev/stderr' 2>second | wc -c"
expect_out 65537
expect_that test "$(wc -c <second)" = 65537

story "$mib MiB in and out again arrive unchanged"
pattern() { yes 0123456789abcdefghijklmnopqrstuvwxyz-the-quick-brown-fox | head -c $((mib << 20)); }
pattern | sha256sum >wanted
pattern >large
try sh -c "'$program' exec box -- cat <large | sha256sum"
expect_out "$(<wanted)"
try in_box sha256sum <large
expect_out "$(<wanted)"

story 'a reader that sleeps loses nothing'
try sh -c "'$program' exec box -- seq 1 300000 | { sleep $sleep_s; sha256sum; }"
expect_out "$(seq 1 300000 | sha256sum)"

story 'a program that does not read its stdin'
try sh -c "head -c 1000000 /dev/zero | '$program' exec box -- head -c 1 | wc -c"
expect_out 1
expect_code 0

story 'a reader that leaves early'
# shellcheck disable=SC2016
try bash -c "'$program' exec box -- sh -c 'yes; echo \$? >&2' | head -n 1"
expect_out y
expect_err_like '^141$'

story 'streams that are closed or null'
try sh -c "'$program' exec box -- cat <&-"
expect_code 0
try sh -c "'$program' exec box -- sh -c 'echo lost; echo heard >&2' >&-"
expect_code 0
expect_that test "$(<err)" = heard
try sh -c "'$program' exec box -- sh -c 'echo lost; exit 9' <&- >&- 2>&-"
expect_code 9
try sh -c "'$program' exec box -- sh -c 'cat; exit 8' </dev/null >/dev/null 2>&1"
expect_code 8

story 'stdin ends, and stdout goes on'
try sh -c "echo asked | '$program' exec box -- sh -c 'cat; sleep 1; echo answered'"
expect_out $'asked\nanswered'

story 'the kernel ends it for want of memory'
# shellcheck disable=SC2016
try in_box sh -c 'echo 1000 >/proc/self/oom_score_adj; exec tail /dev/zero' </dev/null
expect_code 137
expect_err_like 'ran out of memory'

story 'programs on a terminal'
on_terminal=("$terminal" --seconds 60)
try "${on_terminal[@]}" --size 40x100 -- "$program" exec box -- stty size
expect_code 0
expect_out_like '^40 100'
# Escape apart from what follows it: together they would be a key.
try "${on_terminal[@]}" --wait '~' --send 'ihello' --wait 'hello' --send '\x1b' --wait '- /tmp/note' --send ':wq\r' \
  -- "$program" exec box -- vi /tmp/note
expect_code 0
try in_box cat /tmp/note
expect_out hello
try "${on_terminal[@]}" --wait 'Mem' --send 'q' -- "$program" exec box -- top
expect_code 0
try "${on_terminal[@]}" --wait '[#$] ' --send 'exit 5\r' -- "$program" exec box -- sh
expect_code 5

story 'a terminal that goes away takes its program along'
try "${on_terminal[@]}" --wait 'up' --hang-up -- "$program" exec box -- sh -c 'echo up; exec sleep 4712'
expect_that test "$code" -gt 128
left() { in_box sh -c 'ps | grep -q "[s]leep 4712"' </dev/null; }
for _ in {1..50}; do left || break; done
expect_that test "$(in_box sh -c 'ps | grep -c "[s]leep 4712"' </dev/null)" = 0

story 'files and trees in and out'
mkdir -p tree/sub
seq 1 1000 >tree/sub/numbers
ln -s sub/numbers tree/link
ln tree/sub/numbers tree/same
truncate -s 16M tree/sparse
chmod 640 tree/same
touch -d '2001-02-03' tree/same
try "$program" cp tree box:/tmp/
expect_code 0
expect_no_err
try "$program" cp box:/tmp/tree back
expect_code 0
expect_that diff -r tree back
# shellcheck disable=SC2016
expect_that test "$(cd tree && find . -printf '%P %m %s %n %T@ %l\n' | sort)" = "$(cd back && find . -printf '%P %m %s %n %T@ %l\n' | sort)"
expect_that test "$(stat -c %b back/sparse)" = 0
try "$program" cp large box:/tmp/large
expect_code 0
try in_box sha256sum /tmp/large
expect_out_like "^$(cut -d ' ' -f 1 wanted)"
refused 1 'in the guest: /none: No such file or directory' "$program" cp box:/none .
refused 1 'in the guest: /none/x: No such file or directory' "$program" cp large box:/none/x
refused 1 'absent: No such file or directory' "$program" cp absent box:/tmp/

finish

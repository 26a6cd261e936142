#!/usr/bin/env bash
# Machines that have a name and stay: what is done to them from the outside. Two machines serve all cases but those about
# ends. MINIVM_EXECS is how many execs the cases about many of them make.
. "$(dirname "${BASH_SOURCE[0]}")/story.sh"

execs=${MINIVM_EXECS:-60}
export XDG_RUNTIME_DIR=$scratch/run
mkdir -m 700 "$XDG_RUNTIME_DIR"
state=$XDG_RUNTIME_DIR/minivm

fds_of() { find "/proc/$1/fd" -type l | wc -l; }
# of_heap PID: KiB of the heap that are in use.
of_heap() { awk '/\[heap\]/ {heap = 1} heap && /^Rss:/ {print $2; exit}' "/proc/$1/smaps"; }

story 'a machine in the background'
try "$minivm" run -d --name web
expect_code 0
expect_out web
expect_no_err
try "$minivm" ps
expect_out_like '^web +running '
try "$minivm" inspect --json web
expect_out_like '"ready": true'

story 'exec: streams, codes, reasons'
# shellcheck disable=SC2016
try "$minivm" exec web -- sh -c 'cat; echo to stderr >&2; exit 7' <<<'through'
expect_code 7
expect_out through
expect_that test "$(<err)" = 'to stderr'
# shellcheck disable=SC2016
try "$minivm" exec -e GIVEN='a b' -w /tmp -u nobody web sh -c 'echo "$GIVEN $PWD $(id -un)"'
expect_out 'a b /tmp nobody'
# shellcheck disable=SC2016
try "$minivm" exec web sh -c 'kill -TERM $$'
expect_code 143
refused 127 'machine web: no-such-program: not found' "$minivm" exec web no-such-program
refused 126 'machine web: /etc/passwd: Permission denied' "$minivm" exec web /etc/passwd
refused 125 'machine web: changing to /nowhere' "$minivm" exec -w /nowhere web true
refused 125 'machine nope: there is none' "$minivm" exec nope true
refused 124 'timed out after 1 s' "$minivm" exec --timeout 1s web sleep 1000
try "$minivm" exec web cat <&-
expect_code 0
expect_out ''

story 'a name is taken once'
refused 125 'machine web: runs already' "$minivm" run -d --name web
refused 125 'machine web: runs already' "$minivm" boot --name web
refused 1 'machine web: runs' "$minivm" rm web

story 'signals reach the command, and the second one ends it'
# shellcheck disable=SC2016
"$minivm" exec web sh -c 'trap "echo one" INT; echo up; while :; do sleep 0.2; done' >said 2>&1 &
client=$!
expect_that until_true grep -q up said
kill -INT "$client"
expect_that until_true grep -q one said
kill -INT "$client"
wait "$client"
code=$?
expect_code 137

story 'the death of the client is that of its command'
"$minivm" exec web sleep 4711 &
client=$!
lives() { "$minivm" exec web sh -c 'ps | grep -q "[s]leep 4711"'; }
expect_that until_true lives
kill -KILL "$client"
wait "$client" 2>/dev/null
gone() { ! lives; }
expect_that until_true gone

story 'a command that is kept outlives its client'
try "$minivm" exec -d web sh -c 'sleep 1; echo kept >/tmp/kept'
expect_code 0
expect_that until_true "$minivm" exec web grep -q kept /tmp/kept

story "echo never loses its output, $execs times"
for ((i = 0; i < execs; i++)); do "$minivm" exec web echo hi </dev/null; done >all 2>&1
command_line="$execs times exec web echo hi"
expect_that test "$(grep -c '^hi$' all)" = "$execs"
expect_that test "$(wc -l <all)" = "$execs"

story 'many execs leave nothing, on neither side'
vmm=$(pid_of web)
fds=$(fds_of "$vmm") heap=$(of_heap "$vmm")
# The processes are counted by a shell that has no child meanwhile; kernel threads have no program.
# shellcheck disable=SC2016
inside='n=0; for exe in /proc/[0-9]*/exe; do [ ! -e "$exe" ] || n=$((n + 1)); done; echo "$n"; ls /proc/1/fd | wc -l; sed -n "s/VmRSS: *//p" /proc/1/status'
before=$("$minivm" exec web sh -c "$inside")
for ((i = 0; i < execs; i++)); do "$minivm" exec web true </dev/null; done
try "$minivm" exec web sh -c "$inside"
expect_out "$before"
expect_that test "$(fds_of "$vmm")" = "$fds"
expect_that test "$(of_heap "$vmm")" -le "$((heap + 128))"

story '200 execs at once'
# shellcheck disable=SC2016
for ((i = 0; i < 200; i++)); do "$minivm" exec web sh -c 'read -r line; echo "$line"' <<<"$i" >>many 2>&1 & done
wait
command_line='200 times exec at once'
expect_that test "$(sort -n many | tr '\n' ' ')" = "$(seq -s ' ' 0 199) "

story 'a command in the background, and its logs'
# shellcheck disable=SC2016
try "$minivm" run -d --name job -- sh -c 'echo out 1; echo err 1 >&2; echo out 2; sleep 1000'
expect_out job
expect_that until_true sh -c "'$minivm' logs job 2>/dev/null | grep -q 'out 2'"
try "$minivm" logs job
expect_out $'out 1\nout 2'
expect_that test "$(<err)" = 'err 1'
try "$minivm" logs --tail 1 job
expect_that test "$(cat out err | wc -l)" = 1
refused 125 'no command of it is logged' "$minivm" logs web
"$minivm" logs -f job >followed 2>&1 &
follower=$!
"$minivm" wait job >waited &
waiter=$!

story 'stop: TERM, and the exit code is there for all who ask'
try "$minivm" stop job
expect_code 0
wait "$follower"
expect_that test "$(grep -c . followed)" = 3
wait "$waiter"
expect_that test "$(<waited)" = 143
try "$minivm" ps -a
expect_out_like '^job +ended \(143\) '
refused 125 'machine job: has ended' "$minivm" exec job true
try "$minivm" wait job
expect_code 143
expect_out 143
try "$minivm" rm job
expect_code 0
expect_that test ! -e "$state/job"

story 'one that does not want to end'
# shellcheck disable=SC2016
try "$minivm" run -d --rm --name stubborn -- sh -c 'trap "" TERM; while :; do sleep 1; done'
expect_code 0
"$minivm" wait stubborn >waited &
waiter=$!
try "$minivm" stop -t 4s stubborn
expect_code 0
wait "$waiter"
expect_that test "$(<waited)" = 137
expect_that test ! -e "$state/stubborn"

story 'a background command that cannot start says so'
refused 127 'no-such-program: not found' "$minivm" run -d --name bad -- no-such-program
expect_that test ! -e "$state/bad"

story 'a foreground machine has a name too'
"$minivm" run --name front -- sh -c 'echo up; sleep 1000' >said &
front=$!
expect_that until_true grep -q up said
try "$minivm" exec front echo inside
expect_out inside
try "$minivm" kill front
expect_code 0
wait "$front"
expect_that test ! -e "$state/front"

story 'a killed minivm leaves state that the next command settles'
kill -KILL "$vmm"
expect_that until_true sh -c "'$minivm' ps -a | grep -q '^web *killed'"
refused 125 'machine web: has ended' "$minivm" exec web true
try "$minivm" wait web
expect_code 137
try "$minivm" rm web
expect_code 0
expect_that test -z "$(ls "$state")"

finish

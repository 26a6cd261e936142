#!/usr/bin/env bash
# What tools/lab promises, seen on the real thing. One machine for all that can be asked in one life.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
command -v qemu-system-x86_64 >/dev/null || {
  echo "skipped: the lab needs qemu-system-x86" >&2
  exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

failures=0
expect() { # expect WHAT FOUND WANTED
  [[ $2 == "$3" ]] && return
  echo "$1: found '$2', wanted '$3'" >&2
  failures=$((failures + 1))
}

# Every byte value, and more than any buffer on the way holds.
head -c 3000000 /dev/urandom >"$work/random"
for byte in {0..255}; do printf '%b' "\\0$(printf %o "$byte")"; done >"$work/bytes"
cat "$work/bytes" "$work/random" >"$work/input"

a_whole_life() {
  local code=0 script
  # shellcheck disable=SC2016
  script='cat                                        # stdin to stdout
    cat "$1/bytes" >&2                               # files of the host are there
    echo changed >"$1/bytes"; echo new >"$1/new"     # and cannot be changed
    { ls -d /sys/module/kvm_amd; test -c /dev/kvm && echo kvm; echo "$PWD"; echo "$MINIVM_WORD"; echo "$#:$2"; } >/run/lab/share/facts
    sleep 1000 &                                     # a leftover keeps nothing waiting
    exit 7'
  mkdir "$work/share"
  MINIVM_WORD="two  words" tools/lab --share "$work/share" bash -c "$script" script "$work" $'a "b"\n$c' \
    <"$work/input" >"$work/stdout" 2>"$work/stderr" || code=$?
  expect "exit status" "$code" 7
  cmp "$work/input" "$work/stdout" || failures=$((failures + 1))
  head -c 256 "$work/input" | cmp - "$work/stderr" || failures=$((failures + 1))
  head -c 256 "$work/input" | cmp - "$work/bytes" || failures=$((failures + 1))
  [[ ! -e $work/new ]] || expect "a file written inside" "$work/new" "nothing"
  expect "facts" "$(cat "$work/share/facts")" "$(printf '%s\n' /sys/module/kvm_amd kvm "$PWD" "two  words" $'2:a "b"\n$c')"
}

# The first, which may have to prepare the machine and say so on stderr.
a_missing_program() {
  local code=0
  tools/lab /no/such/program </dev/null >"$work/stdout" 2>"$work/stderr" || code=$?
  expect "exit status of a missing program" "$code" 127
}

a_reader_that_leaves() {
  local words
  words=$(timeout 120 tools/lab yes </dev/null 2>/dev/null | head -n 2 | tr '\n' ' ') || true
  expect "the first words of many" "$words" "y y "
}

an_end_by_limit() {
  local code=0
  tools/lab --timeout 3 sleep 1000 </dev/null >"$work/stdout" 2>"$work/stderr" || code=$?
  expect "exit status at the limit" "$code" 255
  expect "words at the limit" "$(grep -c 'limit of 3 seconds' "$work/stderr")" 1
}

# CPU time of a fixed amount of work, in milliseconds.
counted() {
  # shellcheck disable=SC2016
  tools/lab --count bash -c 'for ((i = 0; i < 40000; i++)); do :; done; times' </dev/null | tr 'ms' '  ' |
    awk 'NR == 1 {printf "%d\n", 1000 * ($1 * 60 + $2 + $3 * 60 + $4)}'
}

a_count_repeats() {
  local first second
  first=$(counted)
  second=$(counted)
  expect "two counts, $first and $second, within 5 %" $((first > 0 && 20 * (first > second ? first - second : second - first) <= first)) 1
}

# `script` gives the lab a terminal, of which the command must become the owner.
a_terminal() {
  # shellcheck disable=SC2016
  script -qec 'stty rows 33 cols 99; tools/lab bash -c "tty; stty size; read -r word; echo got \$word; exit 5"' /dev/null \
    <<<hello >"$work/stdout" || expect "exit status on a terminal" "$?" 5
  expect "terminal" "$(tr -d '\r' <"$work/stdout" | grep -E '^(/dev/hvc0|33 99|got hello)$' | tr '\n' ' ')" "/dev/hvc0 33 99 got hello "
}

stories=(a_missing_program a_whole_life a_reader_that_leaves an_end_by_limit a_count_repeats a_terminal)
for story in "${@:-${stories[@]}}"; do
  echo "$story"
  "$story"
done
((failures == 0))

# What every script of tools/ starts with: where things are, how it speaks, how it waits for another run of itself.
# shellcheck shell=bash

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${MINIVM_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME, XDG_CACHE_HOME or MINIVM_CACHE}/.cache}/minivm}
export project cache

# stdout belongs to the command that the user asked for: every word of ours goes to stderr.
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
  say "$*"
  exit 1
}

# usage: the comment at the top of the running script, without its marks.
usage() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"; }

# locked FILE COMMAND...: runs COMMAND while holding FILE against other processes; says so when it has to wait.
locked() {
  local file=$1 lock
  shift
  mkdir -p "$(dirname "$file")"
  exec {lock}>"$file"
  flock -n "$lock" || {
    say "waiting for another run that holds $file"
    flock "$lock"
  }
  "$@" {lock}>&-
  exec {lock}>&-
}

#!/usr/bin/env bash
# What one command in a machine that runs takes on the host: the system calls of `minivm exec NAME true`, from the first call
# of its own, after the loader's and the C library's, to its exit; and how often it waited for the machine's process.
#
#   benches/exec_calls_bench.sh [--here]
#
# Boots a machine where tools/on-kvm finds that possible. --here: on this machine, whatever it is.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../tools/lib/kvm.sh"

minivm=$(realpath "${MINIVM:-$project/build/cli/minivm}")
most=60

[[ ${1:-} == --here ]] || exec "$project/tools/on-kvm" env MINIVM="$minivm" "${BASH_SOURCE[0]}" --here
command -v strace >/dev/null || die "strace is not installed (tools/dev setup installs it)"

scratch=$(mktemp -d)
trap '"$minivm" kill bench 2>/dev/null || true; rm -rf "$scratch"' EXIT
export XDG_RUNTIME_DIR=$scratch
"$minivm" run -d --rm --name bench --boot-timeout 400s >/dev/null
"$minivm" exec bench true
strace -f -o "$scratch/trace" "$minivm" exec bench true </dev/null
# The first thing that minivm does is to ignore SIGPIPE.
sed -n '/SIGPIPE/,$p' "$scratch/trace" | grep -oE '^[0-9]+ +[a-z_0-9]+\(' | awk '{print $2}' >"$scratch/calls"
calls=$(wc -l <"$scratch/calls")
printf 'exec      system calls of the client, from its first to its exit: %s, %s of them waits\n' "$calls" \
  "$(grep -c '^poll' "$scratch/calls")"
if ((calls <= most)); then verdict=kept; else verdict=MISSED; fi
printf '          %s: at most %s\n' "$verdict" "$most"

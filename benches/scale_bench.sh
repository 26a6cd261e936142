#!/usr/bin/env bash
# What one more machine costs beside N that run: CPU time and KVM exits (benches/exits.sh) of `minivm run -- /bin/true` with
# 64 MiB, while N machines of 64 MiB idle in the background; and how much memory of the host each of those holds.
#
#   benches/scale_bench.sh [--here] [N...]     1 10 50 100 unless told
#
# CPU time is the least of three: the others contain what the idle ones do now and then. The kernel is minivm's own when that
# has been built.
#
# Where /dev/kvm is not fit for that, it runs in a lab whose CPU counts instructions (tools/lab --count).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../tools/lib/kvm.sh"

. "$project/benches/exits.sh"

memory=64M
settled=6

available_kib() { awk '/^MemAvailable:/{print $2}' /proc/meminfo; }

# start_until N: machines that idle, so that N run.
start_until() {
  while ((running < $1)); do
    "$minivm" run -d --rm --name "scale-$running" --memory "$memory" </dev/null >/dev/null
    machines+=("scale-$running")
    running=$((running + 1))
  done
  sleep "$settled" # each has given back by then what its boot took and left
}

# Leaves in $least and $exits what one more costs.
one_more() {
  least=''
  for _ in 1 2 3; do
    counted "$minivm" run --memory "$memory" -- /bin/true </dev/null
    [[ -n $least && $least -lt $spent ]] || least=$spent
  done
}

# row: one row of the table, with what the machines in the background hold.
row() {
  one_more
  printf '%8s %11s us %8s %16s MiB\n' "$running" "$least" "$exits" \
    "$(awk -v kib=$((before - $(available_kib))) -v n="$running" 'BEGIN{printf "%.1f", n ? kib / 1024 / n : 0}')"
}

here=0
[[ ${1:-} != --here ]] || { here=1 && shift; }
(($#)) || set -- 1 10 50 100
if ((!here)) && ! kvm_is_usable; then
  say "in the lab, counting instructions: $kvm_reason"
  MINIVM=$minivm exec "$project/tools/lab" --count --mem 8192 --timeout 1800 "$0" --here "$@" </dev/null
fi
running=0 machines=()
start_counting
trap 'stop_counting; ((!running)) || "$minivm" kill "${machines[@]}" >/dev/null' EXIT
rm -rf "$cache/unpacked" # whose files may lie where files have no holes, as in the lab's view of this machine
"$minivm" run --memory "$memory" -- /bin/true </dev/null # fills it again
before=$(available_kib)
printf '%8s %14s %8s %20s\n' running 'one more, CPU' exits 'memory of each'
row
for count; do
  start_until "$count"
  row
done

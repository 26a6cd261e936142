#!/usr/bin/env bash
# Many execs in one machine, and what they leave behind: each echo has its output, hundreds run at once, and neither the machine's
# process nor the guest has more descriptors, processes or memory after thousands than before. Too long for a test of each
# change; it ends with code 1 when something is lost or grows.
#
#   benches/exec_soak.sh [--here]
#
# Boots a machine where tools/on-kvm finds that possible. --here: on this machine, whatever it is. ECHOES, EXECS, AT_ONCE and MIB
# say how many; SECONDS_AT_MOST ends the execs early.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../tools/lib/kvm.sh"

minivm=$(realpath "${MINIVM:-$project/build/cli/minivm}")
echoes=${ECHOES:-500} execs=${EXECS:-10000} at_once=${AT_ONCE:-200} mib=${MIB:-1024} patience=${SECONDS_AT_MOST:-1500}

[[ ${1:-} == --here ]] || exec "$project/tools/on-kvm" env MINIVM="$minivm" "${BASH_SOURCE[0]}" --here

scratch=$(mktemp -d)
trap '"$minivm" kill soak 2>/dev/null || true; rm -rf "$scratch"' EXIT
export XDG_RUNTIME_DIR=$scratch
failures=0

# verdict TEXT COMMAND...
verdict() {
  local text=$1
  shift
  if "$@"; then
    printf 'kept     %s\n' "$text"
  else
    printf 'MISSED   %s\n' "$text"
    failures=$((failures + 1))
  fi
}

# own_kib: KiB of heap that the machine's process has in use.
own_kib() { awk '/^[0-9a-f]+-/ {heap = /\[heap\]/} heap && /^Rss:/ {sum += $2} END {print sum}' "/proc/$vmm/smaps"; }

# sample DONE: one row of the table; the figures stay in `row`.
sample() {
  # shellcheck disable=SC2016
  local inside='set -- /proc/[0-9]*; echo $#; set -- /proc/1/fd/*; echo $#
    while read -r key value _; do
      case $key in VmRSS:) echo "$value" ;; esac
    done </proc/1/status
    while read -r key value _; do
      case $key in MemFree: | Slab: | SUnreclaim:) echo "$value" ;; esac
    done </proc/meminfo'
  "$minivm" exec soak sh -c "$inside" </dev/null >"$scratch/guest"
  mapfile -t guest <"$scratch/guest"
  row=("$1" "$(find "/proc/$vmm/fd" -type l | wc -l)" "$(own_kib)" "$(find "/proc/$vmm/task" -mindepth 1 -maxdepth 1 | wc -l)" "${guest[@]}")
  printf '%8s %8s %8s %8s %8s %8s %8s %9s %8s %8s\n' "${row[@]}"
}

"$minivm" run -d --rm --name soak --boot-timeout 400s >/dev/null
vmm=$("$minivm" inspect --json soak | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')

for ((i = 0; i < echoes; i++)); do "$minivm" exec soak echo hi </dev/null; done >"$scratch/echoes" 2>&1 || true
verdict "$echoes times echo hi: $(grep -c '^hi$' "$scratch/echoes") outputs, $(wc -l <"$scratch/echoes") lines" \
  test "$(grep -c '^hi$' "$scratch/echoes") $(wc -l <"$scratch/echoes")" = "$echoes $echoes"

echo "    execs  vmm fds  vmm KiB  threads     pids init fds init KiB  free KiB slab KiB   pinned"
sample 0
wrong=0 begin=$SECONDS
for ((done = 1; done <= execs && SECONDS - begin < patience; done++)); do
  "$minivm" exec soak true </dev/null || wrong=$((wrong + 1))
  # What is there after a tenth is what a machine needs to work at all.
  ((done == execs / 10)) && sample "$done" && first=("${row[@]}")
  ((done > execs / 10 && done % ((execs + 9) / 10) == 0)) && sample "$done"
done
sample "$((done - 1))"
verdict "$((done - 1)) execs of true in $((SECONDS - begin)) s, $wrong failed" test "$wrong" = 0
first=("${first[@]:-${row[@]}}")
verdict "descriptors: ${first[1]} and ${row[1]} of the process, ${first[5]} and ${row[5]} of PID 1" \
  test "${first[1]} ${first[5]}" = "${row[1]} ${row[5]}"
verdict "processes in the guest: ${first[4]} and ${row[4]}" test "$((row[4] - first[4]))" -le 2
verdict "KiB of the process: ${first[2]} and ${row[2]}" test "$((row[2] - first[2]))" -le 256
verdict "KiB of PID 1: ${first[6]} and ${row[6]}" test "$((row[6] - first[6]))" -le 64
verdict "KiB that the guest's kernel cannot give back: ${first[9]} and ${row[9]}" test "$((row[9] - first[9]))" -le 2048

for ((i = 0; i < at_once; i++)); do
  # shellcheck disable=SC2016
  "$minivm" exec soak sh -c 'read -r line; echo "$line"' <<<"$i" >>"$scratch/many" 2>&1 &
done
wait
verdict "$at_once execs at once have each their own output" \
  test "$(sort -n "$scratch/many" | tr '\n' ' ')" = "$(seq -s ' ' 0 "$((at_once - 1))") "
sample "+$at_once"

make="yes 0123456789abcdefghijklmnopqrstuvwxyz-the-quick-brown-fox | head -c $((mib << 20))"
wanted=$(sh -c "$make" | sha256sum)
verdict "$mib MiB of stdin have their hash" test "$(sh -c "$make" | "$minivm" exec soak sha256sum)" = "$wanted"
verdict "$mib MiB of stdout have their hash" test "$("$minivm" exec soak sh -c "$make" </dev/null | sha256sum)" = "$wanted"
verdict "$mib MiB through cat have their hash" test "$(sh -c "$make" | "$minivm" exec soak cat | sha256sum)" = "$wanted"
sample end
exit "$((failures > 0))"

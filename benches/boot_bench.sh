#!/usr/bin/env bash
# What a boot costs, against the other VMMs found here: a guest with one CPU and 256 MiB and a static /init. "To PID 1" is from
# the exec of the VMM until /init has said so on the console, by its first instructions; "to the end" until the VMM has exited
# because /init reboots at once. Debian's stock kernel, and minivm's own when it has been built. Every VMM gets the same kernel
# and the same initramfs; QEMU gets the kernel's own choices first, and then the words that minivm puts on the command line.
#
#   benches/boot_bench.sh [--here]
#
# CPU time, user and system, and KVM exits are of the whole (benches/exits.sh). "Beside RAM" is what the VMM has resident but
# for the guest's RAM, once its guest is idle; "program" the size of its executable without symbols, libraries not counted.
# Then minivm's own: a whole `run -- /bin/true`, and what an idle shell has of its guest's RAM.
#
# Where /dev/kvm is not fit for that, it runs in a lab whose CPU counts instructions, one nanosecond each (tools/lab --count):
# figures then compare VMMs, and say nothing about seconds on hardware. --here: on this machine, whatever it is.
#
# The boot of minivm is a warm one: an earlier one, which is not measured, has put the unpacked kernel into the cache, which
# is emptied before: what is there may lie where files have no holes, as in the lab's view of this machine.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../tools/lib/kvm.sh"
. "$project/benches/exits.sh"

words='console=ttyS0 panic=-1 quiet cryptomgr.notests tsc=reliable no_timer_check 8250.nr_uarts=1 noreplace-smp'
words+=' swiotlb=noforce percpu_alloc=page'

first_words='PID 1'

# make_initrd FILE STATEMENT: one program, /init, which does this.
make_initrd() {
  local tree
  tree=$(mktemp -d)
  musl-gcc -static -Os -o "$tree/init" -x c - <<<"
#include <sys/reboot.h>
#include <unistd.h>
int main(void) { $2; }"
  (cd "$tree" && echo init | cpio --quiet -o -H newc -R +0:+0) >"$1"
  rm -r "$tree"
}

# MiB that the process has resident: in the guest's RAM, which is the mappings that touch each other and have 200 MiB or more,
# and beside it.
resident() {
  sed -nE 's/^([0-9a-f]+)-([0-9a-f]+) .*/map \1 \2/p; s/^(Size|Rss): +([0-9]+) .*/\1 \2/p' "/proc/$1/smaps" | awk '
    function close_group() { if (size < 204800) beside += resident; else ram += resident; size = resident = 0 }
    $1 == "map" { if ($2 "" != end "") close_group(); end = $3 } # as text: 7e10 is no number here
    $1 == "Size" { size += $2 }
    $1 == "Rss" { resident += $2 }
    END { close_group(); printf "%.1f %.1f", ram / 1024, beside / 1024 }'
}

# Leaves in $ram and $beside what the VMM that COMMAND starts has resident when it has not run for two seconds.
measure_memory() {
  local pid before=-1 now=0
  "$@" </dev/null >/dev/null 2>&1 &
  pid=$!
  while [[ $now != "$before" && -e /proc/$pid/stat ]]; do
    sleep 2
    before=$now
    now=$(awk '{print $14 + $15}' "/proc/$pid/stat")
  done
  read -r ram beside <<<"$(resident "$pid")"
  cut_off "$pid"
}

cut_off() {
  kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

# Leaves in $spent and $exits what it takes until the guest's first program has said so.
count_to_first_program() {
  local pid line
  interval_begins
  in_group exec "$@" </dev/null >"$work/console" 2>/dev/null &
  pid=$!
  while read -r line && [[ $line != *"$first_words"* ]]; do :; done <"$work/console"
  # Without a group of its own only what has ended can be counted.
  [[ -n $count_group ]] || cut_off "$pid"
  interval_ends
  cut_off "$pid"
}

program_size() {
  local stripped=$work/program
  strip -o "$stripped" "$(command -v "$1")"
  awk -v bytes="$(stat -c %s "$stripped")" 'BEGIN{printf "%.1f", bytes / 1048576}'
}

# measure NAME COMMAND...: one row of the table. INITRD in COMMAND stands for the initramfs.
measure() {
  local name=$1 code=0
  shift
  counted "${@//INITRD/$reboots}" </dev/null >"$work/out" 2>&1 || code=$?
  if ((code != 0)); then
    printf '%-34s failed with exit code %s\n' "$name" "$code"
    tail -n 5 "$work/out" >&2
    return
  fi
  local whole=$spent whole_exits=$exits
  count_to_first_program "${@//INITRD/$waits}"
  measure_memory "${@//INITRD/$waits}"
  printf '%-34s %9.1f ms %7s %9.1f ms %7s %7s MiB %6s MiB\n' "$name" "$(in_ms "$spent")" "$exits" "$(in_ms "$whole")" \
    "$whole_exits" "$beside" "$(program_size "$1")"
}

in_ms() { awk -v n="$1" 'BEGIN{print n / 1000}'; }

# compare NAME KERNEL: one after the other, since they share the CPU, and its cache.
compare() {
  local boot=("$minivm" boot --kernel "$2" --initrd INITRD --append 'rdinit=/init' --memory 256M)
  local qemu=(qemu-system-x86_64 -accel kvm -cpu host -smp 1 -m 256 -nodefaults -no-user-config -display none -serial stdio
    -no-reboot -kernel "$2" -initrd INITRD)
  "${boot[@]//INITRD/$reboots}" </dev/null >/dev/null || die "the first boot failed with exit code $?"
  printf '\n%-34s %12s %7s %12s %7s %11s %10s\n' "$1" 'to PID 1' exits 'to the end' exits 'beside RAM' program
  measure 'minivm boot' "${boot[@]}"
  if command -v lkvm >/dev/null; then
    measure kvmtool lkvm run --kernel "$2" --initrd INITRD --mem 256 --cpus 1 --network mode=none \
      --params 'quiet panic=-1 rdinit=/init'
  fi
  if command -v qemu-system-x86_64 >/dev/null; then
    measure 'QEMU microvm' "${qemu[@]}" -M microvm,acpi=on -append 'console=ttyS0 quiet panic=-1'
    measure "QEMU microvm, RTC, minivm's words" "${qemu[@]}" -M microvm,acpi=on,rtc=on -append "$words"
  fi
}

# Also a command, and where its time goes; and a shell that waits.
time_a_command() {
  printf '\n%s, minivm run --timing -- /bin/true\n' "$1"
  counted "$minivm" run --kernel "$2" --memory 256M --timing -- /bin/true </dev/null
  printf 'CPU time: %s us; exits: %s\n' "$spent" "$exits"
  measure_memory "$minivm" run --kernel "$2" --memory 256M -- sh -c 'sleep 1000; true'
  printf 'an idle shell: %s MiB of the guest'"'"'s RAM, %s beside it\n' "$ram" "$beside"
}

stock=${MINIVM_KERNEL:-$cache/assets/kernel/vmlinuz}
own=$cache/assets/kernel-minivm/vmlinuz
if [[ ${1:-} != --here ]] && ! kvm_is_usable; then
  [[ -e $stock ]] || die "no kernel at $stock (tools/assets kernel prepares it)"
  say "in the lab, counting instructions: $kvm_reason"
  MINIVM=$minivm exec "$project/tools/lab" --count --mem 3072 --timeout 900 "$0" --here </dev/null
fi

work=$(mktemp -d)
rm -rf "$cache/unpacked"
start_counting
trap 'stop_counting; rm -rf "$work"' EXIT
reboots=$work/reboots waits=$work/waits
make_initrd "$reboots" 'return reboot(RB_AUTOBOOT)'
make_initrd "$waits" "write(1, \"$first_words\\n\", ${#first_words} + 1); for (;;) pause()"
mkfifo "$work/console"
printf 'machine: %s, Linux %s; guests: one CPU, 256 MiB\n' \
  "$(sed -n 's/^model name\s*: //p;T;q' /proc/cpuinfo)" "$(uname -r)"
measure_kernel() {
  compare "$@"
  time_a_command "$@"
}
measure_kernel "Debian's stock kernel" "$stock"
[[ ! -e $own ]] || measure_kernel "minivm's own kernel" "$own"

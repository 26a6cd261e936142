#!/usr/bin/env bash
# What a boot costs, against the other VMMs found here: CPU time, user and system, from exec to exit of a VMM whose guest has
# one CPU and 256 MiB, Debian's stock bzImage and a static /init that reboots at once. Every VMM gets the same kernel and the
# same initramfs; QEMU gets the kernel's own choices first, and then the words that minivm puts on the command line.
#
#   benches/boot_bench.sh [--here]
#
# Where /dev/kvm is not fit for that, it runs in a lab whose CPU counts instructions, one nanosecond each (tools/lab --count):
# figures then compare VMMs, and say nothing about seconds on hardware. --here: on this machine, whatever it is.
#
# The boot of minivm is a warm one: an earlier one, which is not measured, has put the unpacked kernel into the cache.
# KVM exits are counted by a tracepoint when this is root, in the same run.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../tools/lib/kvm.sh"
. "$(dirname "${BASH_SOURCE[0]}")/exits.sh"

kernel=${MINIVM_KERNEL:-$cache/assets/kernel/vmlinuz}
words='console=ttyS0 panic=-1 quiet cryptomgr.notests tsc=reliable no_timer_check 8250.nr_uarts=1'

# make_initrd FILE: one program, /init.
make_initrd() {
  local tree
  tree=$(mktemp -d)
  cc -static -Os -o "$tree/init" -x c - <<'C'
#include <sys/reboot.h>
int main(void) { return reboot(RB_AUTOBOOT); }
C
  (cd "$tree" && echo init | cpio --quiet -o -H newc -R +0:+0) >"$1"
  rm -r "$tree"
}

# measure NAME COMMAND...: one row of the table.
measure() {
  local name=$1 code=0
  shift
  counted timeout 200 "$@" </dev/null >"$work/out" 2>&1 || code=$?
  if ((code != 0)); then
    printf '%-44s failed with exit code %s\n' "$name" "$code"
    tail -n 5 "$work/out" >&2
    return
  fi
  printf '%-44s %7d ms %10s\n' "$name" $((spent / 1000)) "$exits"
}

# One after the other: they share the CPU, and its cache.
compare() {
  local boot=("$minivm" boot --kernel "$kernel" --initrd "$initrd" --append 'rdinit=/init' --console none --memory 256M)
  local qemu=(qemu-system-x86_64 -accel kvm -cpu host -smp 1 -m 256 -nodefaults -no-user-config -display none -serial null
    -no-reboot -kernel "$kernel" -initrd "$initrd")
  timeout 200 "${boot[@]}" </dev/null || die "the first boot failed with exit code $?"
  printf '%-44s %9s %10s\n' "exec to exit" "CPU time" "KVM exits"
  measure 'minivm boot' "${boot[@]}"
  measure 'minivm run -- true (built-in root)' "$minivm" run --memory 256M -- true
  if command -v lkvm >/dev/null; then
    measure 'kvmtool' lkvm run --kernel "$kernel" --initrd "$initrd" --mem 256 --cpus 1 --network mode=none \
      --params 'quiet panic=-1 rdinit=/init'
  fi
  if command -v qemu-system-x86_64 >/dev/null; then
    measure 'QEMU microvm' "${qemu[@]}" -M microvm,acpi=on -append 'console=ttyS0 quiet panic=-1'
    measure "QEMU microvm, RTC, minivm's words" "${qemu[@]}" -M microvm,acpi=on,rtc=on -append "$words"
  fi
}

if [[ ${1:-} != --here ]]; then
  [[ -e $kernel ]] || die "no kernel at $kernel (tools/assets kernel prepares it)"
  initrd=$(mktemp)
  trap 'rm -f "$initrd"' EXIT
  make_initrd "$initrd"
  export MINIVM_BENCH_INITRD=$initrd MINIVM=$minivm
  if kvm_is_usable; then
    "$0" --here
  else
    say "in the lab, counting instructions: $kvm_reason"
    "$project/tools/lab" --count --mem 3072 --timeout 900 "$0" --here </dev/null
  fi
  exit
fi

work=$(mktemp -d)
start_counting
trap 'stop_counting; rm -rf "$work"' EXIT
initrd=${MINIVM_BENCH_INITRD:-$work/initrd}
[[ -e $initrd ]] || make_initrd "$initrd"
printf 'machine: %s, Linux %s; guests: %s, one CPU, 256 MiB\n' \
  "$(sed -n 's/^model name\s*: //p;T;q' /proc/cpuinfo)" "$(uname -r)" "$(basename "$kernel")"
compare

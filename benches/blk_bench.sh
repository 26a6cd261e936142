#!/usr/bin/env bash
# What a disk request costs, against the other VMMs found here: CPU time of the VMM with its guest in it, and KVM exits, for each
# request. Every VMM gets Debian's stock bzImage, the same initramfs (benches/guest.c) and one CPU; the image of 64 MiB is on
# ext4 and in the host's page cache; the guest's own cache is bypassed.
#
#   benches/blk_bench.sh [--here] [VMM...]
#
# Where /dev/kvm is not fit for that, it runs in a lab whose CPU counts instructions, one nanosecond each (tools/lab --count):
# figures then compare VMMs, and say nothing about seconds on hardware. --here: on this machine, whatever it is; takes root for
# the file system of the image and for KVM's tracepoint. `direct` goes past the host's page cache, to a loop device whose own
# work is in nobody's figure.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/guest.sh"

count=${REQUESTS:-1280}
every=(minivm minivm-pci minivm-direct qemu-threads qemu-io_uring qemu-direct-io_uring kvmtool)

start() {
  local options=() drive=cache=writeback
  case $1 in
    minivm*)
      options=(--disk "$image")
      [[ $1 != *-direct* ]] || options=(--disk "$image,direct")
      [[ $1 != *-pci ]] || options+=(--transport pci)
      "$minivm" boot --kernel "$guest_kernel" --initrd "$initrd" --append rdinit=/init --console stdio \
        --memory 256M "${options[@]}"
      ;;
    qemu*)
      [[ $1 != *-direct-* ]] || drive=cache=none
      qemu-system-x86_64 -accel kvm -cpu host -smp 1 -m 256 -nodefaults -no-user-config -display none \
        -serial stdio -no-reboot -M microvm,acpi=on,rtc=on -kernel "$guest_kernel" -initrd "$initrd" -append "$guest_words" \
        -object iothread,id=loop -drive "file=$image,format=raw,if=none,id=disk,aio=${1##*-},$drive" \
        -device virtio-blk-device,drive=disk,iothread=loop
      ;;
    kvmtool)
      # It reads no other stdin than a terminal.
      script -qfec "lkvm run --kernel $guest_kernel --initrd $initrd --mem 256 --cpus 1 --network mode=none \
        --disk $image --console serial --params '$guest_words rdinit=/init'" /dev/null
      ;;
  esac
}

# measure VMM: one row for each kind of request.
measure() {
  local row name request
  if ! guest_starts start "$1" || ! guest_does 'disk read 131072 1 512'; then guest_errors >&2; fi
  for row in 'read 4 KiB, depth 1:read 4096 1' 'read 4 KiB, depth 32:read 4096 32' 'write 4 KiB, depth 1:write 4096 1' \
    'write 4 KiB, depth 32:write 4096 32' 'read 128 KiB in sequence:read 131072 1'; do
    IFS=: read -r name request <<<"$row"
    if guest_does "disk $request $count"; then
      awk -v vmm="$1" -v name="$name" -v spent="$spent" -v exits="$exits" -v count="$count" \
        'BEGIN {printf "%-22s %-26s %8.2f us %7.2f exits\n", vmm, name, spent / count, exits / count}'
    else
      printf '%-22s %-26s failed\n' "$1" "$name"
      guest_errors >&2
      break
    fi
  done
  guest_ends
}

present() {
  case $1 in
    qemu*) command -v qemu-system-x86_64 >/dev/null ;;
    kvmtool) command -v lkvm >/dev/null ;;
  esac
}

if [[ ${1:-} != --here ]]; then
  [[ -e $guest_kernel ]] || die "no kernel at $guest_kernel (tools/assets kernel prepares it)"
  export MINIVM=$minivm
  if kvm_is_usable; then
    exec "$0" --here "$@"
  fi
  say "in the lab, counting instructions: $kvm_reason"
  unpack_kernels
  exec "$project/tools/lab" --count --mem 3072 --timeout 1800 --env REQUESTS "$0" --here "$@" </dev/null
fi
shift

work=$(mktemp -d)
start_counting
trap 'stop_counting; umount "$work/disk" 2>/dev/null || true; rm -rf "$work"' EXIT
initrd=$work/initrd image=$work/disk/image
make_initrd "$initrd"
mkdir "$work/disk"
truncate -s 160M "$work/host.ext4"
mke2fs -q -t ext4 "$work/host.ext4"
mount -o loop "$work/host.ext4" "$work/disk"
head -c 64M /dev/zero | tr '\0' x >"$image"
sync
printf 'machine: %s, Linux %s; guests: %s, one CPU, 256 MiB\n' \
  "$(sed -n 's/^model name\s*: //p;T;q' /proc/cpuinfo)" "$(uname -r)" "$(basename "$(dirname "$guest_kernel")")"
(($#)) || set -- "${every[@]}"
for vmm; do
  if present "$vmm"; then measure "$vmm"; fi
done

# A guest that does what it is told while it is counted, for the scripts beside this file: benches/guest.c on Debian's stock
# kernel, the same for every VMM.
# shellcheck shell=bash disable=SC2034
#
#   make_initrd FILE         /init, and the modules that every VMM's devices need, in the order in which they are loaded
#   guest_starts COMMAND...  starts a VMM whose console is its stdin and stdout, and waits for its guest
#   guest_does LINE          leaves microseconds of CPU time in $spent and exits in $exits; fails when the guest did
#   guest_ends
. "$(dirname "${BASH_SOURCE[0]}")/../tools/lib/kvm.sh"
. "$(dirname "${BASH_SOURCE[0]}")/exits.sh"

guest_kernel=${MINIVM_KERNEL:-$cache/assets/kernel/vmlinuz}
# What minivm puts on the command line; QEMU's guests get the same.
guest_words='console=ttyS0 panic=-1 quiet cryptomgr.notests tsc=reliable no_timer_check 8250.nr_uarts=1'

make_initrd() {
  local tree file number=0
  tree=$(mktemp -d)
  mkdir -p "$tree/root/modules" "$tree/lib/modules"
  ln -s "$(dirname "$guest_kernel")/modules" "$tree/lib/modules/bench"
  for file in virtio_mmio virtio_pci virtio_blk virtio_net vmw_vsock_virtio_transport; do
    PATH=$PATH:/usr/sbin:/sbin modprobe -d "$tree" -S bench --show-depends "$file"
  done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' >"$tree/list"
  while read -r file; do
    cp "$file" "$tree/root/modules/$(printf %02d "$number")"
    number=$((number + 1))
  done <"$tree/list"
  cc -static -Os -o "$tree/root/init" "$project/benches/guest.c"
  (cd "$tree/root" && find . | cpio --quiet -o -H newc -R +0:+0) >"$1"
  rm -r "$tree"
}

# hears WORD: reads the guest's lines up to the one that begins with WORD; false when it failed or ended before. Without a limit
# of time: a clock that counts instructions leaps ahead while the lab waits for a file.
hears() {
  local line
  while IFS= read -r -u "$guest_out" line; do
    line=${line%$'\r'}
    guest_said+=$line$'\n'
    case $line in
      "$1"*) return ;;
      failed*) return 1 ;;
    esac
  done
  return 1
}

guest_starts() {
  guest_pipes=$(mktemp -d)
  mkfifo "$guest_pipes/in" "$guest_pipes/out"
  guest_said=''
  in_group "$@" <"$guest_pipes/in" >"$guest_pipes/out" 2>"$guest_pipes/errors" &
  guest_pid=$!
  exec {guest_in}>"$guest_pipes/in" {guest_out}<"$guest_pipes/out"
  hears ready
}

guest_does() {
  interval_begins
  echo "$1" >&"$guest_in"
  hears 'done' || return
  interval_ends
}

guest_ends() {
  echo quit >&"$guest_in" || true
  exec {guest_in}>&- {guest_out}<&-
  # One of QEMU's with a TAP interface may never go; nobody needs its last words.
  [[ -z $count_group ]] || echo 1 >"$count_group/cgroup.kill"
  wait "$guest_pid" || true
  rm -r "$guest_pipes"
}

# What is known of a guest that failed.
guest_errors() {
  printf '%s' "$guest_said"
  cat "$guest_pipes/errors"
}

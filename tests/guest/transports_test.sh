#!/usr/bin/env bash
# Devices on PCI as on MMIO, memory that comes back to the host, and a console on virtio-console.
terminal=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/on_terminal.py
. "$(dirname "${BASH_SOURCE[0]}")/story.sh"

# resident PID: its resident memory in MiB.
resident() { awk -v page="$(getconf PAGESIZE)" '{ printf "%d", $2 * page / 1048576 }' "/proc/$1/statm"; }

# waits SECONDS COMMAND...: until the command succeeds.
waits() {
  local left=$(($1 * 5))
  shift
  until "$@"; do
    ((left-- > 0)) || return 1
    sleep 0.2
  done
}

story 'on PCI the disk, the random numbers, vsock and MSI-X work'
truncate -s 8M data.img
printf 'from the host' | dd of=data.img conv=notrunc status=none
# shellcheck disable=SC2016
try "$minivm" run --transport pci --disk data.img -- sh -c '
  head -c 13 /dev/vda && echo
  printf "from the guest" | dd of=/dev/vda bs=512 seek=1 conv=sync,fsync status=none
  head -c 16 /dev/hwrng | wc -c
  grep -c "PCI-MSI.*virtio" /proc/interrupts
  ls /sys/bus/pci/drivers/virtio-pci | grep -c 0000:'
expect_code 0
expect_out_like '^from the host$'
expect_out_like '^16$'
expect_out_like '^1[0-9]$'
expect_out_like '^4$'
expect_that test "$(dd if=data.img bs=512 skip=1 count=1 status=none | head -c 14)" = 'from the guest'

story 'memory that the guest frees goes back to the host, and stats tells'
export XDG_RUNTIME_DIR=$scratch/runtime
mkdir -m 700 "$XDG_RUNTIME_DIR"
mkfifo typed
"$minivm" run --name frees --memory 1G -- sh -c '
  mount -t tmpfs -o size=90% none /mnt
  head -c 400M /dev/zero >/mnt/file; echo full; read -r line
  rm /mnt/file; echo freed; read -r line' <typed >said 2>err &
vmm=$!
exec {keys}>typed
command_line='minivm run, with stdin from a pipe'
says() { grep -qx "$1" said; }
gave_back() { (($(resident "$vmm") < full - 300)); }
expect_that waits 400 says full
full=$(resident "$vmm")
expect_that test "$full" -gt 400
echo >&"$keys"
expect_that waits 120 says freed
expect_that waits 120 gave_back
try "$program" stats frees
expect_code 0
expect_out_like '^  guest.free +[0-9]{9}'
expect_out_like '^  host.resident +[0-9]{8}'
expect_out_like '^  exits +[0-9]{4}'
echo >&"$keys"
wait "$vmm"
code=$?
expect_code 0
refused 1 'machine frees: ' "$program" stats frees

story 'the console on hvc0, with the size of the terminal'
try "$terminal" --seconds 400 --size 33x99 --wait '[$#] ' --send 'stty size\n' --wait '33 99' --send 'cat /proc/consoles\n' --wait 'hvc0 ' --wait '[$#] ' --send '\x01x' \
  -- "$minivm" boot --console-port virtio --init /bin/sh
expect_code 0

own=$assets/kernel-minivm/vmlinuz
if [[ -e $own ]]; then
  story "the project's own kernel on PCI"
  try "$minivm" run --kernel "$own" --transport pci -- sh -c 'grep -c "PCI-MSI.*virtio" /proc/interrupts'
  expect_code 0
  expect_out_like '^[0-9]+$'
fi

finish

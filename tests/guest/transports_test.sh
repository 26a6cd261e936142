#!/usr/bin/env bash
# Devices on PCI as on MMIO, the balloon and memory that comes back to the host, and a console on virtio-console.
terminal=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/on_terminal.py
. "$(dirname "${BASH_SOURCE[0]}")/story.sh"
export XDG_RUNTIME_DIR=$scratch/runtime
mkdir -m 700 "$XDG_RUNTIME_DIR"

in_guest() { timeout 120 "$program" exec frees -- sh -c "$1"; }

# A machine that lives on: the first stories are its.
truncate -s 8M data.img
printf 'from the host' | dd of=data.img conv=notrunc status=none
story 'on PCI the disk, the random numbers, vsock and MSI-X work'
try timeout 450 "$minivm" run -d --name frees --memory 1G --balloon 600M --transport pci --rng --disk data.img -- sleep 100000
expect_code 0
# shellcheck disable=SC2016
try in_guest '
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

# number NAME: what stats says of the machine under this name, in MiB.
number() { timeout 60 "$program" stats --json frees | awk -v name="\"$1\":" '$1 == name { print int($2 / 1048576) }'; }
# until_number NAME TEST...: false when the number does not pass the test within a minute and more.
until_number() {
  local name=$1 i
  shift
  for ((i = 0; i < 120; ++i)); do
    ! test "$(number "$name")" "$@" || return 0
    sleep 0.5
  done
  return 1
}

story 'the guest gives what --balloon says, and takes it back before it kills for memory'
expect_that until_number guest.balloon -eq 600
empty=$(number host.resident)
try in_guest 'mount -t tmpfs -o size=90% none /mnt && dd if=/dev/zero of=/mnt/file bs=1M count=500 && dmesg | grep -ci "killed process"'
expect_code 1
expect_out 0
full=$(number host.resident)
expect_that test "$full" -ge $((empty + 480))
expect_that test "$(number guest.balloon)" -le 450

story 'memory that the guest frees goes back to the host, and stats tells'
try in_guest 'rm /mnt/file'
expect_code 0
expect_that until_number host.resident -le $((full - 450))
printf 'resident, MiB: %s, with the file %s, without it %s\n' "$empty" "$full" "$(number host.resident)"
try timeout 60 "$program" stats frees
expect_code 0
expect_out_like '^  guest.free +[0-9]{8}'
expect_out_like '^  host.resident +[0-9]{8}'
expect_out_like '^  exits +[0-9]{4}'
try timeout 60 "$program" kill frees
expect_code 0
refused 1 'machine frees: ' "$program" stats frees

story 'what the boot left goes back in small parts, for some seconds only'
order=/sys/module/page_reporting/parameters/page_reporting_order
reported_from() { test "$(timeout 60 "$program" exec settles -- cat "$order")" "$@"; }
try timeout 450 "$minivm" run -d --name settles --memory 256M
expect_code 0
# Huge pages that the host is not to make again: no other mapping of the process is marked so.
expect_that until_true grep -q '^VmFlags:.* nh' "/proc/$(pid_of settles)/smaps"
expect_that until_true reported_from -ge 9
try timeout 60 "$program" kill settles
expect_code 0

story 'the console on hvc0, with the size of the terminal'
try "$terminal" --seconds 200 --size 33x99 --wait '[$#] ' --send 'stty size\n' --wait '33 99' \
  --send 'cat /proc/consoles\n' --wait 'hvc0 ' --wait '[$#] ' --send '\x01x' \
  -- "$minivm" boot --console-port virtio --init /bin/sh
expect_code 0

own=$assets/kernel-minivm
if grep -qs '^CONFIG_PCI_MMCONFIG=y' "$own/config"; then
  story "the project's own kernel on PCI"
  try timeout 450 "$minivm" run --kernel "$own/vmlinuz" --transport pci -- grep -c 'PCI-MSI.*virtio' /proc/interrupts
  expect_code 0
  expect_out_like '^[1-9][0-9]*$'
fi
if [[ -e $own/vmlinuz ]]; then
  story "the project's own kernel, told of its devices by the command line, in the least memory"
  try timeout 450 "$minivm" run --kernel "$own/vmlinuz" --discovery cmdline --memory 32M -- echo there
  expect_code 0
  expect_out there
fi

finish

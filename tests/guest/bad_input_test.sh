#!/usr/bin/env bash
# Each kind of bad input: one clear line on stderr, exit code 125, nothing left behind.
. "$(dirname "${BASH_SOURCE[0]}")/story.sh"

kernel=$assets/kernel/vmlinuz

story 'kernels that are none'
head -c 100000 /dev/urandom >noise
head -c 3000 "$kernel" >short
: >empty
printf '#!/bin/sh\n' >script
refused 125 'kernel noise: ' "$minivm" run --kernel noise -- true
refused 125 'kernel short: ' "$minivm" run --kernel short -- true
refused 125 'kernel empty: ' "$minivm" run --kernel empty -- true
refused 125 'kernel script: ' "$minivm" run --kernel script -- true
refused 125 'absent: No such file' "$minivm" run --kernel absent -- true
refused 125 'kernel .*: ' "$minivm" run --kernel "$scratch" -- true

story 'no 64-bit entry point'
cp "$kernel" legacy
printf '\0\0' | dd of=legacy bs=1 seek=$((0x236)) conv=notrunc status=none
refused 125 'kernel legacy: .*64-bit' "$minivm" run --kernel legacy -- true

story 'a wrong architecture'
cp /bin/true other
printf '\xb7\0' | dd of=other bs=1 seek=18 conv=notrunc status=none
refused 125 'kernel other: .*(arm64|AArch64|aarch64)' "$minivm" run --kernel other -- true

story 'what does not fit'
refused 125 '(kernel|initrd|guest)' "$minivm" run --memory 32M -- true
truncate -s 900M large
refused 125 'initrd.*bytes' "$minivm" run --memory 512M --initrd large -- true
refused 125 'absent: No such file' "$minivm" run --initrd absent -- true
refused 125 'command line: [0-9]+ bytes' "$minivm" run --append "$(printf 'x%.0s' {1..3000})" -- true

story 'numbers out of range'
refused 125 'cpus' "$minivm" run --cpus 0 -- true
refused 125 'cpus' "$minivm" run --cpus 1000 -- true
refused 125 '1M: less than' "$minivm" run --memory 1M -- true
refused 125 '9000T: the host has' "$minivm" run --memory 9000T -- true
refused 125 'lots: not a size' "$minivm" run --memory lots -- true
refused 125 'cid' "$minivm" run --cid 2 -- true

story 'options'
refused 125 'nonsense' "$minivm" run --nonsense -- true
refused 125 'no command' "$minivm" run
refused 125 'subcommand' "$program"
refused 125 'no verb is called exce; see minivm --help' "$program" exce web true
refused 125 'console' "$minivm" run --console window -- true

story 'modules'
mkdir modules
refused 125 'modules modules: no modules.dep' "$minivm" run --modules modules -- true
echo 'kernel/other.ko:' >modules/modules.dep
refused 125 'modules modules: no module virtio_mmio' "$minivm" run --modules modules -- true

story 'no KVM, or no permission'
if ((EUID == 0)) && command -v unshare >/dev/null; then
  refused 125 '/dev/kvm: No such file' unshare --mount bash -c "mount -t tmpfs none /dev; '$minivm' run -- true"
fi

story 'a guest that never becomes ready'
try "$minivm" run --append 'rdinit=/minivm/root/bin/busybox -- sleep 1000' --boot-timeout 2s -- true </dev/null
expect_code 125
expect_err_like 'not ready after 2 s'

story 'a kernel that panics'
refused 125 'kernel panicked' "$minivm" run --append 'rdinit=/nothing root=/dev/nothing' -- true
expect_err_like 'Kernel panic - not syncing'

story 'a guest that ends before the command'
refused 125 'powered off before the command ended' "$minivm" run -- poweroff -f
refused 125 'rebooted before the command ended' "$minivm" run -- reboot -f

finish

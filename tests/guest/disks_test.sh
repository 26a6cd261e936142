#!/usr/bin/env bash
# Root images and disks: throw-away by default, kept when asked, refused by name when they are wrong.
. "$(dirname "${BASH_SOURCE[0]}")/story.sh"

debian=$assets/debian-12.ext4

small_root small.ext4
small=$scratch/small.ext4

story 'a distribution'
# shellcheck disable=SC2016
try "$minivm" run --rootfs "$debian" -- sh -c 'cat /etc/os-release; exit 7'
expect_code 7
expect_out_like '^ID=debian'

story 'run never changes an image unless told so'
sum=$(sha256sum <small.ext4)
try "$minivm" run --rootfs "$small" -- sh -c 'echo changed >/etc/changed && cat /etc/changed'
expect_out changed
expect_that test "$(sha256sum <small.ext4)" = "$sum"

story 'with :rw it does, and the file system is clean afterwards'
try "$minivm" run --rootfs "$small:rw" -- sh -c 'echo kept >/etc/kept'
expect_code 0
try "$minivm" run --rootfs "$small" -- cat /etc/kept
expect_out kept
try e2fsck -fn "$small"
expect_code 0

story 'with :ro the root is read-only'
try "$minivm" run --rootfs "$small:ro" -- touch /etc/no
expect_code 1
expect_err_like 'Read-only file system'

story 'more disks'
truncate -s 8M blank.img
truncate -s 1M second.img
printf 'minivm was here' | dd of=second.img conv=notrunc status=none
try "$minivm" run --disk blank.img --disk second.img:ro -- sh -c \
  'head -c 15 /dev/vdb; echo; cat /sys/block/vda/size /sys/block/vdb/ro; echo x | dd of=/dev/vda bs=1 seek=4096 2>/dev/null; sync'
expect_out $'minivm was here\n16384\n1'
expect_that test "$(dd if=blank.img bs=1 skip=4096 count=1 status=none)" = x

story 'an image belongs to one writer'
"$minivm" run --rootfs "$small:rw" -- sleep 30 >/dev/null 2>&1 &
holder=$!
sleep 3
refused 125 'small.ext4: (is )?locked by another' "$minivm" run --rootfs "$small" -- true
kill -KILL "$holder"
wait "$holder" 2>/dev/null
try "$minivm" run --rootfs "$small" -- true
expect_code 0

story 'wrong images are refused by name'
: >empty.img
head -c 1000 /dev/zero >odd.img
printf 'QFI\xfb\0\0\0\3' >cow.img
truncate -s 1M cow.img
refused 125 'absent.img' "$minivm" run --rootfs absent.img -- true
refused 125 'empty.img: is empty' "$minivm" run --rootfs empty.img -- true
refused 125 'odd.img: .*1000.*512' "$minivm" run --rootfs odd.img -- true
refused 125 'cow.img: is a qcow2 image' "$minivm" run --rootfs cow.img -- true
refused 125 "$scratch: is a directory" "$minivm" run --rootfs "$scratch" -- true

story 'a root that does not mount'
refused 125 'guest: .*mount' "$minivm" run --rootfs blank.img -- true

finish

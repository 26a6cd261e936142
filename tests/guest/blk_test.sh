#!/usr/bin/env bash
# Disks as a guest uses them: patterns over every mode, space given back, growth, limits, a full and a failing host disk, and
# what is left of a disk whose minivm was killed. BLK_ROUNDS: how often to kill it (3 unless told).
. "$(dirname "${BASH_SOURCE[0]}")/story.sh"

rounds=${BLK_ROUNDS:-3}

# verify DEVICE SEED PASSES: writes blocks of mixed sizes at random places, each with its own contents, syncs, reads all back.
cat >verify.c <<'C'
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static uint64_t state;
static uint64_t next(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}
static void fill(unsigned char* to, size_t size, uint64_t key) {
  for (size_t i = 0; i < size; i += 8) {
    uint64_t word = (key + i) * 0x9E3779B97F4A7C15u;
    memcpy(to + i, &word, 8);
  }
}
int main(int argc, char** argv) {
  if (argc != 4) return 2;
  enum { most = 256 << 10, slots = 48 };
  const uint64_t slot_size = 512 << 10;
  static unsigned char *wanted, *got;
  posix_memalign((void**)&wanted, 4096, most);
  posix_memalign((void**)&got, 4096, most);
  for (int direct = 0; direct < 2; ++direct) {
    const int fd = open(argv[1], O_RDWR | (direct ? O_DIRECT : 0));
    if (fd < 0) return perror("open"), 3;
    for (int pass = 0; pass < atoi(argv[3]); ++pass) {
      state = strtoull(argv[2], 0, 10) * 2654435761u + pass * 7 + direct + 1;
      uint64_t offset[slots], key[slots];
      size_t size[slots];
      for (int i = 0; i < slots; ++i) {
        size[i] = 512 * (1 + next() % (most / 512));
        offset[i] = i * slot_size + 512 * (next() % 512);
        key[i] = next();
        fill(wanted, size[i], key[i]);
        if (pwrite(fd, wanted, size[i], offset[i]) != (ssize_t)size[i]) return perror("write"), 4;
      }
      if (fsync(fd) != 0) return perror("fsync"), 5;
      ioctl(fd, 0x1261, 0); /* BLKFLSBUF: the next reads come from the disk */
      for (int i = 0; i < slots; ++i) {
        fill(wanted, size[i], key[i]);
        if (pread(fd, got, size[i], offset[i]) != (ssize_t)size[i]) return perror("read"), 6;
        if (memcmp(wanted, got, size[i]) != 0) return fprintf(stderr, "differs at %llu\n", (unsigned long long)offset[i]), 7;
      }
    }
    close(fd);
  }
  puts("verified");
}
C
gcc -O2 -w -static -o verify verify.c

story 'patterns come back over every mode of a disk'
truncate -s 32M cached.img
truncate -s 32M queues.img
loop=$(losetup --find --show queues.img 2>/dev/null) || loop=
try "$minivm" run --disk cached.img --upload ./verify -- ./verify /dev/vda 1 2
expect_out verified
expect_no_err
# The scratch directory may be on tmpfs, which may know no direct I/O; a loop device's disk does.
mkdir real
truncate -s 96M host.ext4
mke2fs -q -t ext4 host.ext4
if mount -o loop host.ext4 real 2>/dev/null; then
  truncate -s 32M real/direct.img
  try "$minivm" run -c 2 --disk real/direct.img,direct --upload ./verify -- ./verify /dev/vda 2 2
  expect_out verified
  expect_no_err
  umount real
fi
if [[ -n $loop ]]; then
  try "$minivm" run --disk "$loop,direct,iops=2000" --upload ./verify -- ./verify /dev/vda 3 1
  expect_out verified
  losetup -d "$loop"
fi

story 'a sparse image shrinks again when the guest trims it'
small_root root.ext4 # its kernel has ext4, built in or as a module
truncate -s 48M sparse.img
mke2fs -q -t ext4 -E nodiscard sparse.img
empty=$(du -k sparse.img | cut -f1)
try "$minivm" run --rootfs root.ext4 --disk sparse.img -- sh -c \
  'mkdir /t && mount /dev/vdb /t && dd if=/dev/zero bs=1M count=24 2>/dev/null | tr "\0" x >/t/f && umount /t'
expect_code 0
full=$(du -k sparse.img | cut -f1)
expect_that test "$full" -gt $((empty + 20000))
try "$minivm" run --rootfs root.ext4 --disk sparse.img -- sh -c 'mkdir /t && mount /dev/vdb /t && rm /t/f && sync && fstrim /t && umount /t'
expect_code 0
expect_that test "$(du -k sparse.img | cut -f1)" -lt $((empty + 2000))
try e2fsck -fn sparse.img
expect_code 0

story 'an image that grows or is cut short is a disk that does'
truncate -s 8M grows.img
{
  until grep -q waits out; do sleep 0.5; done
  truncate -s 16M grows.img
  until grep -q grown out; do sleep 0.5; done
  truncate -s 4M grows.img
} 2>/dev/null &
# shellcheck disable=SC2016
try "$minivm" run --disk grows.img -- sh -c '
  until_size() { for i in $(seq 300); do read size </sys/block/vda/size; [ "$size" != $1 ] || return 0; sleep 1; done; return 9; }
  echo waits && until_size 32768 && echo grown && until_size 8192 && dd if=/dev/vda bs=1M 2>/dev/null | wc -c'
expect_code 0
expect_out $'waits\ngrown\n4194304'
wait

story 'a full host disk is an error in the guest, and no end of the machine'
mkdir tiny
mount -t tmpfs -o size=4M tmpfs tiny
truncate -s 16M tiny/full.img
try "$minivm" run --disk tiny/full.img -- sh -c \
  'dd if=/dev/urandom of=/dev/vda bs=64k count=200 oflag=direct 2>/dev/null; echo "dd $?"; dd if=/dev/vda of=/dev/null bs=1M count=1 2>/dev/null; echo "read $?"'
expect_code 0
expect_out $'dd 1\nread 0'
expect_err_like 'disk tiny/full.img: write at byte [0-9]+: No space left on device'
umount tiny

story 'a failing host disk as well'
truncate -s 4M good.img
# Without udev the node has the kernel's name alone.
if command -v dmsetup >/dev/null && good=$(losetup --find --show good.img) &&
  printf '0 8192 linear %s 0\n8192 8192 error\n' "$good" | dmsetup --noudevsync create failing; then
  failing=/dev/dm-$(dmsetup info -c --noheadings -o minor failing)
  # shellcheck disable=SC2016
  try "$minivm" run --disk "$failing" -- sh -c \
    'for block in 0 1024; do dd if=/dev/vda of=/dev/null bs=4k skip=$block count=1 2>/dev/null; echo "read $?"; done'
  expect_out $'read 0\nread 1'
  dmsetup --noudevsync remove failing
  losetup --detach "$good"
fi

story 'what was synced before minivm was killed is there afterwards'
truncate -s 32M killed.img
mke2fs -q -t ext4 killed.img
mkdir killed
for ((round = 1; round <= rounds; ++round)); do
  : >acknowledged
  # Each number is on stable storage, so says the guest, before it is said.
  "$minivm" run --rootfs root.ext4 --disk killed.img -- sh -c \
    "mkdir /t && mount /dev/vdb /t && for i in \$(seq 1000); do echo $round.\$i >>/t/log; sync; echo $round.\$i; done" >acknowledged 2>err &
  victim=$!
  for ((i = 0; i < 600; ++i)); do
    (($(wc -l <acknowledged) < 3 + round % 7)) || break
    sleep 0.1
  done
  kill -KILL "$victim"
  wait "$victim" 2>/dev/null
  command_line="round $round"
  last=$(grep "^$round\\." acknowledged | tail -n 1)
  # The journal is played back by e2fsck, as the next mount would do.
  e2fsck -fp killed.img >out 2>&1
  code=$?
  expect_that test "$code" -le 1
  try e2fsck -fn killed.img
  expect_code 0
  try debugfs -R 'cat log' killed.img
  expect_that grep -qx "$last" out
done

finish

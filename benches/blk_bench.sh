#!/usr/bin/env bash
# What a disk request costs, against QEMU's microvm (and kvmtool, where it is on the PATH): CPU time, user and system, of the
# VMM's process with its guest in it, and KVM exits, per request. Same kernel (minivm's own), same initramfs, one CPU; the image
# is 64 MiB in the host's page cache; the guest's own cache is bypassed. A boot that asks for nothing is subtracted.
#
#   benches/blk_bench.sh [--here]
#
# Where /dev/kvm is not fit for that, it runs in a lab whose CPU counts instructions, one nanosecond each (tools/lab --count):
# figures then compare VMMs, and say nothing about seconds on hardware. --here: on this machine, whatever it is.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../tools/lib/kvm.sh"

kernel=${MINIVM_KERNEL:-$cache/assets/kernel-minivm/vmlinuz}
events=/sys/kernel/tracing/events/kvm/kvm_exit
TIMEFORMAT='%U %S'

# make_initrd FILE: /init makes the requests that the kernel's command line asks for, bench=WRITE,SIZE,DEPTH,COUNT, and reboots.
make_initrd() {
  local tree
  tree=$(mktemp -d)
  gcc -static -O2 -o "$tree/init" -x c - <<'C'
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void requests(int fd, int writes, size_t size, int depth, int count) {
  enum { most = 64 };
  const size_t disk = 64 << 20;
  aio_context_t context = 0;
  struct iocb blocks[most];
  struct iocb* list[most];
  struct io_event events[most];
  unsigned state = 1;
  size_t next = 0;
  if (syscall(SYS_io_setup, most, &context) != 0) return;
  for (int done = 0; done < count; done += depth) {
    for (int i = 0; i < depth; ++i) {
      static char* memory;
      if (!memory) posix_memalign((void**)&memory, 4096, 1 << 23);
      state = state * 1664525 + 1013904223;
      size_t offset = size > 4096 ? next : (state >> 8) % (disk / size) * size;
      next = (next + size) % disk;
      memset(&blocks[i], 0, sizeof blocks[i]);
      blocks[i].aio_fildes = fd;
      blocks[i].aio_lio_opcode = writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
      blocks[i].aio_buf = (unsigned long)(memory + i * size);
      blocks[i].aio_nbytes = size;
      blocks[i].aio_offset = offset;
      list[i] = &blocks[i];
    }
    if (syscall(SYS_io_submit, context, (long)depth, list) != depth) return;
    if (syscall(SYS_io_getevents, context, (long)depth, (long)depth, events, 0) != depth) return;
    for (int i = 0; i < depth; ++i)
      if (events[i].res != (long)size) return;
  }
  puts("bench: done");
}

int main(void) {
  char line[4096] = "";
  int writes, depth, count;
  size_t size;
  mkdir("/proc", 0755);
  mount("proc", "/proc", "proc", 0, 0);
  FILE* file = fopen("/proc/cmdline", "r");
  fgets(line, sizeof line, file);
  const char* bench = strstr(line, "bench=");
  int major = 254, fd = -1;
  FILE* devices = fopen("/proc/devices", "r");
  char row[256];
  while (fgets(row, sizeof row, devices)) sscanf(row, "%d virtblk", &major), major = strstr(row, "virtblk") ? atoi(row) : major;
  mknod("/vda", S_IFBLK | 0600, makedev(major, 0));
  mknod("/console", S_IFCHR | 0600, makedev(5, 1));
  dup2(open("/console", O_WRONLY), 1);
  fd = open("/vda", O_RDWR | O_DIRECT);
  if (bench && sscanf(bench, "bench=%d,%zu,%d,%d", &writes, &size, &depth, &count) == 4) requests(fd, writes, size, depth, count);
  fflush(stdout);
  return reboot(RB_AUTOBOOT);
}
C
  (cd "$tree" && echo init | cpio --quiet -o -H newc -R +0:+0) >"$1"
  rm -r "$tree"
}

can_count_exits() {
  ((EUID == 0)) || return 1
  [[ -d $events ]] || mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || return 1
  echo 'hist:keys=exit_reason' >"$events/trigger" 2>/dev/null || return 1
  echo '!hist:keys=exit_reason' >"$events/trigger"
}

# once VMM BENCH: leaves CPU time in $nanoseconds and KVM exits in $exits.
once() {
  local code=0
  ((!count_exits)) || echo 'hist:keys=exit_reason' >"$events/trigger"
  { time "start_$1" "$2" </dev/null >"$work/out" 2>&1 || code=$?; } 2>"$work/time"
  exits=0
  if ((count_exits)); then
    exits=$(awk '/hitcount:/{n += $NF} END{print n + 0}' "$events/hist")
    echo '!hist:keys=exit_reason' >"$events/trigger"
  fi
  nanoseconds=$(awk '{printf "%d", ($1 + $2) * 1e9}' "$work/time")
  grep -q 'bench: done' "$work/out" || { tail -n 5 "$work/out" >&2 && die "$1 did not do $2 (exit code $code)"; }
}

start_minivm() {
  "$minivm" boot --kernel "$kernel" --initrd "$initrd" --append "rdinit=/init bench=$1" --console stdio --memory 256M \
    --disk "$image"
}
start_qemu() {
  qemu-system-x86_64 -accel kvm -cpu host -smp 1 -m 256 -nodefaults -no-user-config -display none -serial stdio -no-reboot \
    -M microvm,acpi=on,rtc=on -kernel "$kernel" -initrd "$initrd" \
    -append "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check rdinit=/init bench=$1" \
    -object iothread,id=loop -drive "file=$image,format=raw,if=none,id=disk,cache=writeback,aio=threads" \
    -device virtio-blk-device,drive=disk,iothread=loop
}
start_kvmtool() {
  lkvm run --kernel "$kernel" --initrd "$initrd" --mem 256 --cpus 1 --network mode=none --disk "$image" \
    --params "quiet panic=-1 rdinit=/init bench=$1"
}

# measure VMM: one row for each kind of request.
measure() {
  local vmm=$1 row name bench count idle_time idle_exits
  once "$vmm" 0,4096,1,0
  idle_time=$nanoseconds idle_exits=$exits
  for row in 'read 4 KiB at random, depth 1:0,4096,1:4000' 'read 4 KiB at random, depth 32:0,4096,32:12800' \
    'write 4 KiB at random, depth 1:1,4096,1:4000' 'write 4 KiB at random, depth 32:1,4096,32:12800' \
    'read 128 KiB in sequence, depth 1:0,131072,1:2000'; do
    IFS=: read -r name bench count <<<"$row"
    once "$vmm" "$bench,$count"
    awk -v vmm="$vmm" -v name="$name" -v time=$((nanoseconds - idle_time)) -v exits=$((exits - idle_exits)) -v count="$count" \
      'BEGIN {printf "%-10s %-34s %9.2f us %8.2f exits\n", vmm, name, time / count / 1000, exits / count}'
  done
}

if [[ ${1:-} != --here ]]; then
  [[ -e $kernel ]] || die "no kernel at $kernel (tools/dev kernel builds it)"
  export MINIVM=$minivm
  if kvm_is_usable; then
    exec "$0" --here
  fi
  say "in the lab, counting instructions: $kvm_reason"
  unpack_kernels
  exec "$project/tools/lab" --count --mem 3072 --timeout 1800 "$0" --here </dev/null
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
initrd=$work/initrd image=$work/image
make_initrd "$initrd"
head -c 64M /dev/zero | tr '\0' x >"$image"
count_exits=0
! can_count_exits || count_exits=1
printf 'machine: %s, Linux %s; guests: %s, one CPU, 256 MiB\n' \
  "$(sed -n 's/^model name\s*: //p;T;q' /proc/cpuinfo)" "$(uname -r)" "$(basename "$(dirname "$kernel")")"
measure minivm
if command -v qemu-system-x86_64 >/dev/null; then measure qemu; fi
if command -v lkvm >/dev/null; then measure kvmtool; fi

#!/usr/bin/env bash
# What a MiB of TCP costs, against the other VMMs found here: CPU time of the VMM and its guest, and KVM exits, for each MiB from
# and to a guest of one CPU, over a TAP interface and over a rootless network. Every VMM gets Debian's stock bzImage and the
# same initramfs, whose static /init loads the modules, sets the address, moves the bytes and reboots. A run that moves
# nothing is taken off.
#
#   benches/net_bench.sh [--here]
#
# Where /dev/kvm is not fit for that, it runs in a lab whose CPU counts instructions, one nanosecond each (tools/lab --count):
# figures then compare VMMs, and say nothing about seconds on hardware. --here: on this machine, whatever it is; takes root for
# the TAP interface and for KVM's tracepoint. What the host's kernel does in the name of others, vhost's threads for
# instance, is not in the figures.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../tools/lib/kvm.sh"

kernel=${MINIVM_KERNEL:-$cache/assets/kernel/vmlinuz}
mebibytes=${MEBIBYTES:-64}
words='console=ttyS0 panic=-1 quiet cryptomgr.notests tsc=reliable no_timer_check 8250.nr_uarts=1'
events=/sys/kernel/tracing/events/kvm/kvm_exit
TIMEFORMAT='%U %S'

# make_initrd FILE: /init, and the modules in the order in which they are loaded.
make_initrd() {
  local tree number=0 file modules
  tree=$(mktemp -d)
  mkdir "$tree/proc" "$tree/modules"
  modules=$(dirname "$kernel")/modules
  mkdir -p "$tree/tree/lib/modules"
  ln -s "$modules" "$tree/tree/lib/modules/bench"
  for file in virtio_mmio virtio_pci virtio_net; do
    modprobe -d "$tree/tree" -S bench --show-depends "$file"
  done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' >"$tree/list"
  while read -r file; do
    cp "$file" "$tree/modules/$(printf %02d "$number")"
    number=$((number + 1))
  done <"$tree/list"
  rm -r "$tree/tree" "$tree/list"
  cc -static -Os -o "$tree/init" -x c - <<'C'
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
static char line[4096], buffer[1 << 18];
static struct sockaddr_in address(const char* text, int port) {
  struct sockaddr_in result = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, text, &result.sin_addr);
  return result;
}
static int fail(const char* step) {
  perror(step);
  return reboot(RB_AUTOBOOT);
}
int main(void) {
  char path[32], mine[32], server[32], way[32];
  int mebibytes = 0;
  mount("proc", "/proc", "proc", 0, 0);
  if (read(open("/proc/cmdline", O_RDONLY), line, sizeof(line) - 1) < 0) return fail("cmdline");
  if (sscanf(strstr(line, "bench="), "bench=%31[^,],%31[^,],%31[^,],%d", mine, server, way, &mebibytes) != 4) return fail("bench=");
  for (int i = 0; snprintf(path, sizeof(path), "/modules/%02d", i), access(path, F_OK) == 0; ++i) {
    syscall(SYS_finit_module, open(path, O_RDONLY), "", 0);
  }
  int control = socket(AF_INET, SOCK_DGRAM, 0);
  struct ifreq request = {.ifr_name = "eth0"};
  for (int i = 0; i < 200 && ioctl(control, SIOCGIFINDEX, &request) != 0; ++i) usleep(10000);
  *(struct sockaddr_in*)&request.ifr_addr = address(mine, 0);
  if (ioctl(control, SIOCSIFADDR, &request) != 0) return fail("address");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (ioctl(control, SIOCSIFFLAGS, &request) != 0) return fail("up");
  int sends = strcmp(way, "out") == 0;
  struct sockaddr_in host = address(server, sends ? 9001 : 9002);
  int data = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(data, (struct sockaddr*)&host, sizeof(host)) != 0) return fail("connect");
  long left = (long)mebibytes << 20;
  if (!sends) {
    snprintf(path, sizeof(path), "%d\n", mebibytes);
    if (write(data, path, strlen(path)) < 0) return fail("ask");
  }
  while (left > 0) {
    size_t size = left < (long)sizeof(buffer) ? (size_t)left : sizeof(buffer);
    long moved = sends ? write(data, buffer, size) : read(data, buffer, size);
    if (moved <= 0) return fail("move");
    left -= moved;
  }
  shutdown(data, SHUT_WR);
  while (read(data, buffer, sizeof(buffer)) > 0) {
  }
  return puts("moved all"), reboot(RB_AUTOBOOT);
}
C
  (cd "$tree" && find . | cpio --quiet -o -H newc -R +0:+0) >"$1"
  rm -r "$tree"
}

# The other end: port 9001 takes all and then hangs up, port 9002 sends as many MiB as it is asked for.
serve() {
  exec python3 - <<'P'
import socket, threading
def take(connection):
    buffer = bytearray(1 << 20)
    while connection.recv_into(buffer):
        pass
    connection.close()
def give(connection):
    block = bytes(1 << 20)
    for _ in range(int(connection.makefile().readline())):
        connection.sendall(block)
    connection.close()
def listen(port, work):
    listener = socket.create_server(("", port))
    while True:
        work(listener.accept()[0])
threading.Thread(target=listen, args=(9001, take), daemon=True).start()
listen(9002, give)
P
}

can_count_exits() {
  ((EUID == 0)) || return 1
  [[ -d $events ]] || mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || return 1
  echo 'hist:keys=exit_reason' >"$events/trigger" 2>/dev/null || return 1
  echo '!hist:keys=exit_reason' >"$events/trigger"
}

# run_once COMMAND...: leaves milliseconds of CPU time in $spent and KVM exits in $exits.
run_once() {
  exits=0
  if ((count_exits)); then echo 'hist:keys=exit_reason' >"$events/trigger"; fi
  { time "$@" </dev/null >"$work/out" 2>&1 || true; } 2>"$work/time"
  if ((count_exits)); then
    exits=$(awk '/hitcount:/{n += $NF} END{print n + 0}' "$events/hist")
    echo '!hist:keys=exit_reason' >"$events/trigger"
  fi
  spent=$(awk '{print ($1 + $2) * 1000}' "$work/time")
  grep -q 'moved all' "$work/out"
}

# measure NAME START MINE SERVER: START is a function that runs a VMM with more words for the kernel.
measure() {
  local name=$1 start=$2 way base_spent base_exits
  run_once "$start" "bench=$3,$4,out,0" || true # what is read and unpacked once, by whoever comes first
  for way in out in; do
    if run_once "$start" "bench=$3,$4,$way,0" && base_spent=$spent base_exits=$exits &&
      run_once "$start" "bench=$3,$4,$way,$mebibytes"; then
      awk -v name="$name, $way" -v s="$spent" -v bs="$base_spent" -v e="$exits" -v be="$base_exits" -v n="$mebibytes" \
        'BEGIN {printf "%-40s %10.3f ms %10.1f\n", name, (s - bs) / n, (e - be) / n}'
    else
      printf '%-40s failed\n' "$name, $way"
      tail -n 5 "$work/out" >&2
    fi
  done
}

minivm_with() {
  timeout 300 "$minivm" boot --kernel "$kernel" --initrd "$initrd" --console stdio --memory 256M --net "$1" --append "rdinit=/init $2"
}
minivm_tap() { minivm_with tap=mvbench "$1"; }
minivm_user() { minivm_with user "$1"; }
qemu_with() {
  timeout 300 qemu-system-x86_64 -accel kvm -cpu host -smp 1 -m 256 -nodefaults -no-user-config -display none -serial stdio -no-reboot \
    -M microvm,acpi=on -kernel "$kernel" -initrd "$initrd" -netdev "$1" -device virtio-net-device,netdev=net -append "$words $2"
}
qemu_tap() { qemu_with tap,id=net,ifname=mvbench,script=no,downscript=no,vhost=off "$1"; }
qemu_vhost() { qemu_with tap,id=net,ifname=mvbench,script=no,downscript=no,vhost=on "$1"; }
qemu_user() { qemu_with user,id=net "$1"; }
kvmtool_tap() {
  timeout 300 lkvm run --kernel "$kernel" --initrd "$initrd" --mem 256 --cpus 1 --network mode=tap,tapif=mvbench \
    --params "quiet panic=-1 rdinit=/init $1"
}

# One after the other: they share the CPU, and its cache.
compare() {
  printf '%-40s %13s %10s\n' 'for each MiB' 'CPU time' 'KVM exits'
  if ((EUID == 0)); then
    ip tuntap add dev mvbench mode tap vnet_hdr
    ip addr add 192.168.78.1/24 dev mvbench
    ip link set mvbench up
    measure 'minivm, TAP' minivm_tap 192.168.78.2 192.168.78.1
    ! command -v lkvm >/dev/null || measure 'kvmtool, TAP' kvmtool_tap 192.168.78.2 192.168.78.1
    if command -v qemu-system-x86_64 >/dev/null; then
      measure 'QEMU microvm, TAP' qemu_tap 192.168.78.2 192.168.78.1
      [[ ! -e /dev/vhost-net ]] || measure 'QEMU microvm, TAP, vhost-net' qemu_vhost 192.168.78.2 192.168.78.1
    fi
    ip link del mvbench
  else
    say "skipped: a TAP interface takes root"
  fi
  measure 'minivm, user' minivm_user 10.0.2.15 10.0.2.2
  ! command -v qemu-system-x86_64 >/dev/null || measure 'QEMU microvm, user' qemu_user 10.0.2.15 10.0.2.2
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
    "$project/tools/lab" --count --mem 3072 --timeout 900 --env MEBIBYTES "$0" --here </dev/null
  fi
  exit
fi

work=$(mktemp -d)
initrd=${MINIVM_BENCH_INITRD:-$work/initrd}
[[ -e $initrd ]] || make_initrd "$initrd"
serve &
server=$!
trap 'kill "$server"; rm -rf "$work"' EXIT
until (exec 3<>/dev/tcp/127.0.0.1/9002 && echo 0 >&3) 2>/dev/null; do sleep 0.2; done
count_exits=0
if can_count_exits; then count_exits=1; fi
printf 'machine: %s, Linux %s; guests: %s, one CPU, 256 MiB; %s MiB each way\n' \
  "$(sed -n 's/^model name\s*: //p;T;q' /proc/cpuinfo)" "$(uname -r)" "$(basename "$kernel")" "$mebibytes"
compare

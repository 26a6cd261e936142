#!/usr/bin/env bash
# What a MiB costs to and from a guest, against the other VMMs found here: CPU time of the VMM with its guest in it, and KVM
# exits, over TCP through a TAP interface, over TCP through a rootless network, and over vsock. Every VMM gets Debian's stock
# bzImage, the same initramfs (benches/guest.c) and one CPU.
#
#   benches/net_bench.sh [--here] [ROW...]
#
# Where /dev/kvm is not fit for that, it runs in a lab whose CPU counts instructions, one nanosecond each (tools/lab --count):
# figures then compare VMMs, and say nothing about seconds on hardware. --here: on this machine, whatever it is; takes root for
# the TAP interface and for KVM's tracepoint. The server at the other end is in nobody's figure; vhost's threads are in QEMU's.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/guest.sh"

mebibytes=${MEBIBYTES:-64}
every=(minivm-tap minivm-pci-tap qemu-tap qemu-vhost-tap kvmtool-tap minivm-user minivm-pci-user qemu-user
  minivm-vsock minivm-pci-vsock qemu-vsock kvmtool-vsock)

# The other end, at port 9001 and 9002 of TCP, of vsock, and of minivm's Unix sockets: the first takes all and then hangs up, the
# second sends as many MiB as it is asked for.
serve() {
  exec python3 - "$work/door" <<'P'
import socket, sys, threading
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
def listen(family, address, work):
    listener = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen()
    def accept():
        while True:
            threading.Thread(target=work, args=[listener.accept()[0]]).start()
    threading.Thread(target=accept).start()
for port, work in (9001, take), (9002, give):
    listen(socket.AF_INET, ("", port), work)
    listen(socket.AF_UNIX, f"{sys.argv[1]}_{port}", work)
    try:
        listen(socket.AF_VSOCK, (socket.VMADDR_CID_ANY, port), work)
    except OSError as error:
        print("no vsock here:", error, file=sys.stderr)
print("serves", flush=True)
P
}

start_minivm() {
  "$minivm" boot --kernel "$guest_kernel" --initrd "$initrd" --append rdinit=/init --console stdio --memory 256M "$@"
}
start_qemu() {
  qemu-system-x86_64 -accel kvm -cpu host -smp 1 -m 256 -nodefaults -no-user-config -display none -serial stdio \
    -no-reboot -M microvm,acpi=on,rtc=on -kernel "$guest_kernel" -initrd "$initrd" -append "$guest_words" "$@"
}
# It reads no other stdin than a terminal.
start_kvmtool() {
  script -qfec "lkvm run --kernel $guest_kernel --initrd $initrd --mem 256 --cpus 1 --console serial \
    --params '$guest_words rdinit=/init' $*" /dev/null
}

start() {
  local transport=()
  [[ $1 != *-pci-* ]] || transport=(--transport pci)
  case $1 in
    minivm*-tap) start_minivm "${transport[@]}" --net tap=mvbench ;;
    minivm*-user) start_minivm "${transport[@]}" --net user ;;
    minivm*-vsock) rm -f "$work/door" && start_minivm "${transport[@]}" --vsock-socket "$work/door" ;;
    qemu-tap) start_qemu -netdev tap,id=net,ifname=mvbench,script=no,downscript=no,vhost=off -device virtio-net-device,netdev=net ;;
    qemu-vhost-tap) start_qemu -netdev tap,id=net,ifname=mvbench,script=no,downscript=no,vhost=on -device virtio-net-device,netdev=net ;;
    qemu-user) start_qemu -netdev user,id=net -device virtio-net-device,netdev=net ;;
    qemu-vsock) start_qemu -device vhost-vsock-device,guest-cid=42 ;;
    kvmtool-tap) start_kvmtool --network mode=tap,tapif=mvbench,vhost=1 ;;
    kvmtool-vsock) start_kvmtool --network mode=none --vsock 42 ;;
  esac
}

present() {
  case $1 in
    minivm*-tap) ((EUID == 0)) ;;
    minivm*) true ;;
    qemu*-vhost-tap) [[ -e /dev/vhost-net ]] && command -v qemu-system-x86_64 >/dev/null ;;
    qemu*-vsock) [[ -e /dev/vhost-vsock ]] && command -v qemu-system-x86_64 >/dev/null ;;
    qemu*) command -v qemu-system-x86_64 >/dev/null ;;
    kvmtool*) command -v lkvm >/dev/null ;;
  esac
}

# measure ROW: a first MiB each way is not counted: buffers are made, the window of TCP opens.
measure() {
  local way verb=vsock to=''
  case $1 in
    *-tap) verb=tcp to='192.168.78.1 ' && set -- "$1" 'address 192.168.78.2' ;;
    *-user) verb=tcp to='10.0.2.2 ' && set -- "$1" 'address 10.0.2.15' ;;
  esac
  if ! guest_starts start "$1" || ! guest_does "${2:-nothing}" || ! guest_does "$verb out ${to}1" || ! guest_does "$verb in ${to}1"; then
    guest_errors >&2
  fi
  for way in out in; do
    if guest_does "$verb $way $to$mebibytes"; then
      awk -v name="$1, $way" -v spent="$spent" -v exits="$exits" -v n="$mebibytes" \
        'BEGIN {printf "%-30s %8.3f ms %8.1f exits\n", name, spent / n / 1000, exits / n}'
    else
      printf '%-30s failed\n' "$1, $way"
      guest_errors >&2
      break
    fi
  done
  guest_ends
}

if [[ ${1:-} != --here ]]; then
  [[ -e $guest_kernel ]] || die "no kernel at $guest_kernel (tools/assets kernel prepares it)"
  export MINIVM=$minivm
  if kvm_is_usable; then
    exec "$0" --here "$@"
  fi
  say "in the lab, counting instructions: $kvm_reason"
  unpack_kernels
  exec "$project/tools/lab" --count --mem 3072 --timeout 1800 --env MEBIBYTES "$0" --here "$@" </dev/null
fi
shift

work=$(mktemp -d)
mkfifo "$work/served"
serve >"$work/served" &
server=$!
start_counting
trap 'kill "$server"; stop_counting; ip link del mvbench 2>/dev/null || true; rm -rf "$work"' EXIT
read -r <"$work/served"
initrd=$work/initrd
make_initrd "$initrd"
if ((EUID == 0)); then
  ip tuntap add dev mvbench mode tap vnet_hdr
  ip addr add 192.168.78.1/24 dev mvbench
  ip link set mvbench up
fi
printf 'machine: %s, Linux %s; guests: %s, one CPU, 256 MiB; each MiB of %s, each way\n' \
  "$(sed -n 's/^model name\s*: //p;T;q' /proc/cpuinfo)" "$(uname -r)" "$(basename "$(dirname "$guest_kernel")")" "$mebibytes"
(($#)) || set -- "${every[@]}"
for row; do
  if present "$row"; then measure "$row"; fi
done

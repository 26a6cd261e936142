#!/usr/bin/env bash
# The network: a rootless one with the host, its names and published ports, and a TAP interface.
. "$(dirname "${BASH_SOURCE[0]}")/story.sh"

mkdir www
head -c 3000000 /dev/urandom >www/data
sum=$(sha256sum <www/data)
python3 -m http.server --bind 127.0.0.1 --directory www 8099 >/dev/null 2>&1 &
server=$!
trap 'kill $server $holder 2>/dev/null; rm -rf "$scratch"' EXIT
holder=''
# listens ADDRESS PORT: waits until somebody does.
listens() { until (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; do sleep 0.2; done; }
listens 127.0.0.1 8099

story 'no network unless told'
try "$minivm" run -- ls /sys/class/net
expect_out lo

story 'a network without root: addresses, routes, names and the host at 10.0.2.2'
# shellcheck disable=SC2016
try "$minivm" run --net user --mac 02:00:00:00:00:aa -- sh -c '
  ip addr show dev eth0; ip route; ip -6 route; cat /etc/resolv.conf /etc/hosts
  wget -q -O - http://10.0.2.2:8099/data | sha256sum'
expect_code 0
expect_out_like 'link/ether 02:00:00:00:00:aa'
expect_out_like 'mtu 65520'
expect_out_like 'inet 10\.0\.2\.15/24'
expect_out_like 'inet6 fec0::15/64'
expect_out_like '^default via 10\.0\.2\.2 dev eth0'
expect_out_like '^default via fec0::2 dev eth0'
expect_out_like '^nameserver 10\.0\.2\.3$'
expect_out_like '^127\.0\.0\.1 localhost$'
expect_out_like "^${sum%% *}"
expect_no_err

story 'the host stays closed when told'
try "$minivm" run --net user,no-host -- sh -c 'nc -w 5 10.0.2.2 8099 </dev/null || echo closed'
expect_out closed

story 'apt-get update in a Debian guest, from a repository that the host serves'
mkdir www/repo
printf 'Package: story\nVersion: 1\nArchitecture: all\nFilename: ./story.deb\nSize: 1\nSHA256: 0\n\n' >www/repo/Packages
# shellcheck disable=SC2016
try "$minivm" run --net user --rootfs "$assets/debian-12.ext4" -- sh -c '
  rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
  echo "deb [trusted=yes] http://10.0.2.2:8099/repo ./" >/etc/apt/sources.list
  apt-get -qq update && apt-cache show story && cat /etc/resolv.conf'
expect_code 0
expect_out_like '^Package: story'
expect_out_like '^nameserver 10\.0\.2\.3$'

story 'names are looked up by the host'
if [[ -d /run/lab ]]; then
  # In a lab the host may have a name server that knows everything.
  cat >names.py <<'P'
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
while True:
    query, client = server.recvfrom(512)
    end = query.index(b"\0", 12) + 5
    is_a = query[end - 4:end - 2] == b"\0\1"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([192, 0, 2, 7]) if is_a else b""
    server.sendto(query[:2] + b"\x81\x80\0\1\0" + bytes([is_a]) + b"\0\0\0\0" + query[12:end] + answer, client)
P
  python3 names.py &
  server="$server $!"
  until grep -q ':0035 ' /proc/net/udp; do sleep 0.2; done
  echo 'nameserver 127.0.0.1' >/etc/resolv.conf
  try "$minivm" run --net user -- nslookup somewhere.example
  expect_code 0
  expect_out_like '192\.0\.2\.7'
else
  echo "skipped: only a lab's name server can be set"
fi

story 'a published port'
"$minivm" run -p 8098:80 -- sh -c 'echo from the guest | nc -l -p 80 >/dev/null' >published 2>&1 &
holder=$!
answer=''
for _ in $(seq 400); do
  answer=$( (exec 3<>/dev/tcp/127.0.0.1/8098 && cat <&3) 2>/dev/null) && [[ -n $answer ]] && break
  sleep 1
done
wait "$holder"
code=$? command_line='minivm run -p 8098:80'
cp published err
printf '%s' "$answer" >out
expect_code 0
expect_out 'from the guest'

story 'what the host cannot give is refused before the guest runs'
refused 125 'publish 127.0.0.1:8099: Address already in use' "$minivm" run -p 8099:80 -- true
refused 125 'tap absent-tap-name-x: a name has 1 to 15' "$minivm" run --net tap=absent-tap-name-x -- true
refused 125 'tap descriptor 9' "$minivm" run --net fd=9 -- true
refused 125 'only --net user has ports' "$minivm" run --net tap=tap9 -p 1:1 -- true

if ((EUID != 0)); then
  echo 'skipped: a TAP interface takes root'
  finish
fi

# The guest's side of both transfers; the host's is a server of files and a sink that tells what it got.
cat >sink.py <<'P'
import hashlib, socket
listener = socket.create_server(("192.168.77.1", 8096))
while True:
    connection, _ = listener.accept()
    digest = hashlib.sha256()
    while data := connection.recv(1 << 20):
        digest.update(data)
    connection.sendall((digest.hexdigest() + " arrived\n").encode())
    connection.close()
P
transfers='ping -c 2 192.168.77.1 >/dev/null && echo pinged
  wget -q -O data http://192.168.77.1:8097/data && sha256sum <data && nc 192.168.77.1 8096 <data'
# Switches the guest's checksums and segmentation of what it sends off, then goes on as a shell.
cat >plain.c <<'C'
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char** argv) {
  struct ethtool_value off = {.cmd = ETHTOOL_STXCSUM};
  struct ifreq request = {.ifr_data = (void*)&off};
  strcpy(request.ifr_name, "eth0");
  if (argc < 2 || ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCETHTOOL, &request) != 0) return 99;
  return execl("/bin/sh", "sh", "-c", argv[1], (char*)0);
}
C
gcc -static -o plain plain.c

ip tuntap add dev mvtap mode tap
ip addr add 192.168.77.1/24 dev mvtap
ip link set mvtap up
python3 -m http.server --bind 192.168.77.1 --directory www 8097 >/dev/null 2>&1 &
server="$server $!"
python3 sink.py &
server="$server $!"
listens 192.168.77.1 8097
listens 192.168.77.1 8096
tap=(--net 'tap=mvtap,ip=192.168.77.2/24,gw=192.168.77.1,dns=192.168.77.1')

story 'a TAP interface, both ways'
try "$minivm" run "${tap[@]}" -- sh -c "cat /etc/resolv.conf; $transfers"
expect_code 0
expect_out_like '^nameserver 192\.168\.77\.1$'
expect_out_like '^pinged$'
expect_out_like "^${sum%% *}  -"
expect_out_like "^${sum%% *} arrived"
expect_no_err

story 'the same without offloads in the guest, by a descriptor of the caller'
cat >attach.py <<'P'
import fcntl, os, struct, sys
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"mvtap", 0x0002 | 0x1000 | 0x4000))  # TUNSETIFF: TAP, NO_PI, VNET_HDR
os.dup2(tap, 9)
os.execv(sys.argv[1], sys.argv[1:])
P
try python3 attach.py "$minivm" run --net fd=9,ip=192.168.77.2/24 --upload ./plain -- plain "$transfers"
expect_code 0
expect_out_like '^pinged$'
expect_out_like "^${sum%% *}  -"
expect_out_like "^${sum%% *} arrived"
expect_no_err

finish

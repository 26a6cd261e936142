#!/usr/bin/env bash
# What a command in a running machine costs the host, against ssh and the serial console of the same guest: CPU time of the
# machine's process and of the client, KVM exits and system calls, for each exec of /bin/true and for each GiB of stdin and of
# stdout.
#
#   benches/exec_bench.sh [--here]
#
# Where /dev/kvm is not fit for that, it runs in a lab whose CPU counts instructions, one nanosecond each (tools/lab --count):
# figures then compare, and say nothing about seconds on hardware. --here: on this machine, whatever it is; takes root. ssh
# goes through the vsock door, whose socket it gets itself, so that no relay counts; sshd comes from the Debian archive into
# $XDG_CACHE_HOME/minivm/ssh. MEBIBYTES is how much minivm moves; ssh moves an eighth of it, the console a 64th.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../tools/lib/kvm.sh"
. "$(dirname "${BASH_SOURCE[0]}")/../tools/lib/apt.sh"
. "$(dirname "${BASH_SOURCE[0]}")/exits.sh"

minivm=$(realpath "${MINIVM:-$project/build/cli/minivm}")
export MINIVM_KERNEL=${MINIVM_KERNEL:-$cache/assets/kernel/vmlinuz}
image=$cache/assets/debian-12.ext4
mebibytes=${MEBIBYTES:-64} execs=${EXECS:-20}
most_calls=60 least_factor=10

# make_ssh DIRECTORY: sshd and socat with the libraries that a small Debian lacks, to be copied into the guest, and keys.
make_ssh() {
  local name new
  new=$(mktemp -d "$(dirname "$1")/new.XXXXXX")
  for name in openssh-server socat libwrap0 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 libkeyutils1 libcom-err2 libssl3 libnsl2 libtirpc3; do
    unpack_package "$name" "$new"
  done
  [[ ! -d $new/lib ]] || { cp -a "$new/lib/." "$new/usr/lib/" && rm -r "${new:?}/lib"; }
  ssh-keygen -q -t ed25519 -N '' -f "$new/etc/ssh/host_key"
  ssh-keygen -q -t ed25519 -N '' -f "$new/etc/ssh/client_key"
  cp "$new/etc/ssh/client_key.pub" "$new/etc/ssh/authorized_keys"
  printf '%s\n' 'HostKey /etc/ssh/host_key' 'UsePAM no' 'PermitRootLogin yes' 'StrictModes no' \
    'AuthorizedKeysFile /etc/ssh/authorized_keys' >"$new/etc/ssh/bench_config"
  mv -T "$new" "$1"
}

# For ssh's ProxyUseFdpass: says CONNECT at the door and hands the socket over.
make_caller() {
  cc -O2 -o "$1" -x c - <<'C'
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char** argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strcpy(address.sun_path, argv[argc - 1]);
  int door = socket(AF_UNIX, SOCK_STREAM, 0);
  char byte = 0;
  if (connect(door, (struct sockaddr*)&address, sizeof address) != 0 || write(door, "CONNECT 22\n", 11) != 11) return 1;
  while (byte != '\n')
    if (read(door, &byte, 1) != 1) return 1;
  char control[CMSG_SPACE(sizeof door)];
  struct iovec part = {&byte, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof door);
  memcpy(CMSG_DATA(header), &door, sizeof door);
  return sendmsg(1, &message, 0) != 1;
}
C
}

if [[ ${1:-} != --here ]]; then
  command -v ssh-keygen >/dev/null || die "ssh is not installed (package openssh-client)"
  "$project/tools/assets" kernel debian
  [[ -d $cache/ssh ]] || make_ssh "$cache/ssh"
  kvm_is_usable && exec "${BASH_SOURCE[0]}" --here
  exec "$project/tools/lab" --count --mem 4096 --timeout 1200 env MINIVM="$minivm" "${BASH_SOURCE[0]}" --here
fi

scratch=$(mktemp -d)
trap '"$minivm" kill bench 2>/dev/null || true; stop_counting; rm -rf "$scratch"' EXIT
export XDG_RUNTIME_DIR=$scratch
start_counting
in_group "$minivm" run -d --rm --name bench --boot-timeout 400s --rootfs "$image" --vsock-socket "$scratch/door" >/dev/null
machine=$("$minivm" inspect --json bench | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
"$minivm" cp "$cache/ssh/." bench:/
"$minivm" exec bench sh -c 'ldconfig 2>/dev/null; mkdir -p /run/sshd; echo sshd:x:101:65534::/run/sshd:/bin/false >>/etc/passwd'
"$minivm" exec -d bench socat VSOCK-LISTEN:22,fork,reuseaddr EXEC:'/usr/sbin/sshd -i -f /etc/ssh/bench_config'
make_caller "$scratch/caller"
cp "$cache/ssh/etc/ssh/client_key" "$scratch/key"
chmod 600 "$scratch/key"

by_exec() { "$minivm" exec bench "$@"; }
by_ssh() {
  ssh -F none -i "$scratch/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
    -o ProxyUseFdpass=yes -o ProxyCommand="$scratch/caller $scratch/door" root@guest "$@"
}

# row NAME COUNT: the interval's figures, for each of COUNT.
row() {
  local per=$exits
  [[ $exits == - ]] || per=$(awk "BEGIN {printf \"%.1f\", $exits / $2}")
  printf '%-28s %12.3f %12s\n' "$1" "$(awk "BEGIN {print $spent / 1000 / $2}")" "$per"
}

# times N COMMAND...
times() {
  local i n=$1
  shift
  interval_begins
  for ((i = 0; i < n; i++)); do in_group "$@" </dev/null; done
  interval_ends
}

# from_guest MIB BY, to_guest MIB BY: the other end of the pipe is not counted.
from_guest() {
  interval_begins
  in_group "$2" head -c "${1}M" /dev/zero </dev/null | cat >/dev/null
  interval_ends
}
to_guest() {
  interval_begins
  head -c "${1}M" /dev/zero | in_group "$2" sh -c 'cat >/dev/null'
  interval_ends
}

# calls_of COMMAND...: the machine's system calls meanwhile, by name, in the file calls.
calls_of() {
  strace -f -c -U calls,name -o "$scratch/calls" -p "$machine" 2>/dev/null &
  local tracer=$!
  until grep -q '^TracerPid:.[1-9]' "/proc/$machine/status"; do sleep 0.1; done
  "$@"
  kill -INT "$tracer"
  wait "$tracer" || true
}

# verdict KEPT TEXT: KEPT is an awk expression.
verdict() { printf '          %s: %s\n' "$(awk "BEGIN {print ($1) ? \"kept\" : \"MISSED\"}")" "$2"; }

by_exec true </dev/null
for _ in {1..20}; do by_ssh true </dev/null 2>/dev/null && break; done # it may not listen yet
echo 'for each                     CPU time, ms        exits'
times "$execs" by_exec true
row 'exec of true' "$execs"
times 1 by_ssh true
row 'ssh true' 1
greeting=$spent greeting_exits=$exits
declare -A cost
for way in from_guest to_guest; do
  "$way" "$mebibytes" by_exec
  row "GiB by exec, $way" "$(awk "BEGIN {print $mebibytes / 1024}")"
  cost[$way]=$spent
  "$way" "$((mebibytes / 8))" by_ssh
  # Without what ssh costs when it moves nothing.
  spent=$((spent - greeting))
  [[ $exits == - ]] || exits=$((exits - greeting_exits))
  row "GiB by ssh, $way" "$(awk "BEGIN {print $mebibytes / 8 / 1024}")"
  cost[$way]=$(awk "BEGIN {print $spent * 8 / ${cost[$way]}}")
done
times 1 by_exec sh -c "head -c $((mebibytes << 14)) /dev/zero | tr '\\0' x >/dev/ttyS0"
row 'GiB by the console' "$(awk "BEGIN {print $mebibytes / 65536}")"
for way in from_guest to_guest; do
  verdict "${cost[$way]} >= $least_factor" "$way: ssh costs ${cost[$way]} times as much; at least $least_factor"
done

command -v strace >/dev/null || die "strace is not installed (tools/dev setup installs it)"
strace -f -o "$scratch/trace" "$minivm" exec bench true </dev/null
# The first thing that minivm does is to ignore SIGPIPE: what is before is the loader's and the C library's.
sed -n '/SIGPIPE/,$p' "$scratch/trace" | grep -oE '^[0-9]+ +[a-z_0-9]+\(' | awk '{print $2}' >"$scratch/client"
printf 'system calls of one exec: %s of the client, %s of them waits\n' "$(wc -l <"$scratch/client")" "$(grep -c '^poll' "$scratch/client")"
verdict "$(wc -l <"$scratch/client") <= $most_calls" "at most $most_calls"
calls_of times "$execs" by_exec true
echo "  the machine's, of $execs:"
head -n 12 "$scratch/calls"
calls_of from_guest "$mebibytes" by_exec
echo "  the machine's, for $mebibytes MiB of stdout:"
head -n 10 "$scratch/calls"
calls_of to_guest "$mebibytes" by_exec
echo "  the machine's, for $mebibytes MiB of stdin:"
head -n 10 "$scratch/calls"

#!/usr/bin/env bash
# The command's streams under load: nothing lost, nothing grows.
. "$(dirname "${BASH_SOURCE[0]}")/story.sh"

# An emulated machine moves a few MiB a second: MINIVM_STREAM_MIB=1024 on hardware makes it the full GiB.
mib=${MINIVM_STREAM_MIB:-64}

story "$mib MiB from stdin to stdout arrive unchanged"
pattern() { yes 0123456789abcdefghijklmnopqrstuvwxyz-the-quick-brown-fox | head -c "$1"; }
pattern $((mib << 20)) | sha256sum >wanted
try bash -c "$(declare -f pattern); pattern $((mib << 20)) | '$minivm' run -- cat | sha256sum"
expect_code 0
expect_out "$(<wanted)"

story 'a slow reader blocks the writer, and nothing grows'
mkfifo pipe
"$minivm" run -- sh -c 'yes | head -c 20000000' >pipe 2>err &
vmm=$!
exec 3<pipe
head -c 1000 <&3 >/dev/null
sleep 8
before=$(awk '/^RssAnon/{print $2}' "/proc/$vmm/status")
sleep 8
after=$(awk '/^RssAnon/{print $2}' "/proc/$vmm/status")
command_line='yes | head into a pipe that is not read' code=0
: >out
expect_that test "$((after - before))" -lt 4096
expect_that test "$(cat <&3 | wc -c)" = $((20000000 - 1000))
exec 3<&-
wait "$vmm"
code=$?
expect_code 0

story 'output as it comes'
try bash -c "'$minivm' run -- sh -c 'for i in 1 2 3; do echo \$i; sleep 0.2; done' | cat"
expect_out $'1\n2\n3'

finish

#!/usr/bin/env bash
# Whatever ends minivm, nothing is left behind and the next run works.
. "$(dirname "${BASH_SOURCE[0]}")/story.sh"

# The rest of the cache belongs to the project's own tools, which may be at work meanwhile.
left_over() {
  find /dev/shm "${XDG_CACHE_HOME:-$HOME/.cache}/minivm/unpacked" "${XDG_RUNTIME_DIR:-/run}" -newer started -type f
}

story 'killed'
touch started
"$minivm" run -- sleep 1000 &
vmm=$!
sleep 4
kill -KILL "$vmm"
wait "$vmm" 2>/dev/null
command_line='minivm run, then SIGKILL' code=0
: >out
: >err
expect_that test -z "$(left_over)"
try "$minivm" run -- echo again
expect_out again

story 'a full cache disk'
mkdir full
mount -t tmpfs -o size=1M none full
mkdir full/minivm
ln -s "$assets" full/minivm/assets
XDG_CACHE_HOME=$scratch/full try "$minivm" run -- echo works
expect_code 0
expect_out works
expect_that test -z "$(find full/minivm -type f)"

story 'a cache that cannot be written to'
mount -o remount,ro full
XDG_CACHE_HOME=$scratch/full try "$minivm" run -- echo works
expect_code 0
expect_out works
umount full

story 'four at once share one cache'
mkdir -p shared/minivm
ln -s "$assets" shared/minivm/assets
for i in 1 2 3 4; do XDG_CACHE_HOME=$scratch/shared "$minivm" run --memory 256M -- echo "$i" >>all 2>&1 & done
wait
command_line='four runs with an empty cache'
expect_that test "$(sort all | tr -d '\n')" = 1234
expect_that test "$(find shared/minivm/unpacked -type f -size +10M | wc -l)" = 1

finish
